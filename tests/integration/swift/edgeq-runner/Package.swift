// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "edgeq-runner",
    products: [.library(name: "EdgeqRunner", targets: ["EdgeqRunner"])],
    targets: [.target(name: "EdgeqRunner")]
)
