// swift-tools-version:5.9
import PackageDescription

// Stands in for ONNX Runtime's package.
let package = Package(
    name: "onnxruntime",
    products: [.library(name: "onnxruntime", type: .static, targets: ["OnnxRuntimeBindings"])],
    dependencies: [.package(path: "../edgeq-runner")],
    targets: [
        .target(name: "OnnxRuntimeBindings", dependencies: [.product(name: "EdgeqRunner", package: "edgeq-runner")])
    ]
)
