import EdgeqRunner
import Foundation

// The part of ExecuTorch's Swift interface that exported code uses, with the names, labels and overloads of the
// public headers; runs in edgeq's runner.

public enum DataType: Int8 { case byte, char, short, int, long, half, float }
public enum ShapeDynamism: UInt8 { case `static`, dynamicBound, dynamicUnbound }
public enum ModuleLoadMode: Int { case file, mmap, mmapUseMlock, mmapUseMlockIgnoreErrors }

public func Error(code: Int, description: String) -> Swift.Error {
    NSError(domain: "org.pytorch.executorch.error", code: code, userInfo: [NSLocalizedDescriptionKey: description])
}

public protocol Scalar {
    static var dataType: DataType { get }
}

extension UInt8: Scalar { public static var dataType: DataType { .byte } }
extension Int32: Scalar { public static var dataType: DataType { .int } }
extension Int64: Scalar { public static var dataType: DataType { .long } }
extension Float: Scalar { public static var dataType: DataType { .float } }

public class AnyTensor {
    public let dataType: DataType
    public let shape: [Int]
    fileprivate let bytes: Data

    fileprivate init(dataType: DataType, shape: [Int], bytes: Data) {
        self.dataType = dataType
        self.shape = shape
        self.bytes = bytes
    }

    public func asTensor<T: Scalar>() -> Tensor<T>? { dataType == T.dataType ? Tensor<T>(self) : nil }
}

public final class Tensor<T: Scalar> {
    public let anyTensor: AnyTensor
    public var shape: [Int] { anyTensor.shape }

    public init(_ tensor: AnyTensor) {
        precondition(tensor.dataType == T.dataType)
        anyTensor = tensor
    }

    public convenience init(
        _ scalars: inout [T], shape: [Int] = [], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) {
        self.init(scalars, shape: shape)
    }

    public convenience init(
        _ scalars: [T], shape: [Int] = [], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) {
        precondition(shape.isEmpty || scalars.count == shape.reduce(1, *))
        let bytes = scalars.withUnsafeBytes { Data($0) }
        self.init(AnyTensor(dataType: T.dataType, shape: shape.isEmpty ? [scalars.count] : shape, bytes: bytes))
    }

    public func scalars() -> [T] {
        anyTensor.bytes.withUnsafeBytes { raw in
            let size = MemoryLayout<T>.size
            return (0..<(raw.count / size)).map { raw.loadUnaligned(fromByteOffset: $0 * size, as: T.self) }
        }
    }
}

public class Value {
    public let anyTensor: AnyTensor?

    public init(_ tensor: AnyTensor) { anyTensor = tensor }

    public convenience init<T: Scalar>(_ tensor: Tensor<T>) { self.init(tensor.anyTensor) }

    public func tensor<T: Scalar>() -> Tensor<T>? { anyTensor?.asTensor() }
}

public protocol ValueConvertible {
    func asValue() -> Value
}

public protocol ValueSequenceConstructible {
    static func from(_ values: [Value]) throws -> Self
}

extension Value: ValueConvertible {
    public func asValue() -> Value { self }
}

extension AnyTensor: ValueConvertible {
    public func asValue() -> Value { Value(self) }
}

extension Tensor: ValueConvertible {
    public func asValue() -> Value { Value(self) }
}

public class Module {
    private let path: String
    private var runner: EdgeqRunner?
    private var isRunning = false  // ExecuTorch's own is not for several threads at once either

    public init(filePath: String) { path = filePath }

    public init(filePath: String, loadMode: ModuleLoadMode) { path = filePath }

    public func load() throws { runner = try EdgeqRunner(engine: "executorch", model: path) }

    public func load(_ methodName: String) throws {
        guard methodName == "forward" else { throw Error(code: 0x10, description: "no method \(methodName)") }
        try load()
    }

    public func forward(_ inputs: [ValueConvertible]) throws -> [Value] {
        precondition(!isRunning)
        isRunning = true
        defer { isRunning = false }
        if runner == nil { try load() }
        let sample = inputs.reduce(into: Data()) { $0 += $1.asValue().anyTensor?.bytes ?? Data() }
        return try zip(runner!.outputs, runner!.run(sample)).map { spec, output in
            Value(AnyTensor(dataType: try Self.type(spec.dtype), shape: output.shape, bytes: output.bytes))
        }
    }

    public func forward(_ inputs: ValueConvertible...) throws -> [Value] { try forward(inputs) }

    public func forward<Output: ValueSequenceConstructible>(_ inputs: [ValueConvertible]) throws -> Output {
        try Output.from(forward(inputs))
    }

    public func forward<Output: ValueSequenceConstructible>(_ inputs: ValueConvertible...) throws -> Output {
        try forward(inputs)
    }

    private static func type(_ dtype: String) throws -> DataType {
        switch dtype {
        case "uint8": .byte
        case "int32": .int
        case "int64": .long
        case "float32": .float
        default: throw Error(code: 0x12, description: "an output is \(dtype)")
        }
    }
}
