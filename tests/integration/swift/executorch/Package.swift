// swift-tools-version:5.9
import PackageDescription

// Stands in for ExecuTorch's package: every product that an export may name is the one module.
let package = Package(
    name: "executorch",
    products: ["executorch", "backend_xnnpack", "backend_coreml", "kernels_optimized", "kernels_quantized"].map {
        .library(name: $0, targets: ["ExecuTorch"])
    },
    dependencies: [.package(path: "../edgeq-runner")],
    targets: [
        .target(name: "ExecuTorch", dependencies: [.product(name: "EdgeqRunner", package: "edgeq-runner")])
    ]
)
