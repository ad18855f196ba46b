import EdgeqRunner
import Foundation

// The part of ONNX Runtime's Objective-C interface that exported code uses, as Swift sees it; runs in edgeq's runner.

public enum ORTLoggingLevel: Int32 { case verbose, info, warning, error, fatal }

public enum ORTTensorElementDataType: Int32 {
    case undefined, float, int8, uInt8, int32, uInt32, int64, uInt64, string

    fileprivate init(_ dtype: String) {
        switch dtype {
        case "float32": self = .float
        case "uint8": self = .uInt8
        case "int32": self = .int32
        case "int64": self = .int64
        default: self = .undefined
        }
    }
}

public class ORTEnv {
    public init(loggingLevel: ORTLoggingLevel) throws {}
}

public class ORTSessionOptions {
    public init() throws {}
}

public class ORTRunOptions {
    public init() throws {}
}

public class ORTTensorTypeAndShapeInfo {
    public var elementType: ORTTensorElementDataType
    public var shape: [NSNumber]

    fileprivate init(elementType: ORTTensorElementDataType, shape: [NSNumber]) {
        self.elementType = elementType
        self.shape = shape
    }
}

public class ORTValue {
    private let data: NSMutableData
    private let info: ORTTensorTypeAndShapeInfo

    public init(tensorData: NSMutableData, elementType: ORTTensorElementDataType, shape: [NSNumber]) throws {
        data = tensorData
        info = ORTTensorTypeAndShapeInfo(elementType: elementType, shape: shape)
    }

    public func tensorTypeAndShapeInfo() throws -> ORTTensorTypeAndShapeInfo { info }

    public func tensorData() throws -> NSMutableData { data }
}

public class ORTSession {
    private let runner: EdgeqRunner

    public init(env: ORTEnv, modelPath: String, sessionOptions: ORTSessionOptions?) throws {
        runner = try EdgeqRunner(engine: "onnxruntime", model: modelPath)
    }

    public func inputNames() throws -> [String] { runner.inputs.map(\.name) }

    public func outputNames() throws -> [String] { runner.outputs.map(\.name) }

    public func run(
        withInputs inputs: [String: ORTValue], outputNames: Set<String>, runOptions: ORTRunOptions?
    ) throws -> [String: ORTValue] {
        let sample = try runner.inputs.reduce(into: Data()) { sample, spec in
            guard let value = inputs[spec.name] else { throw EdgeqRunner.Failure("no \(spec.name)") }
            sample += try value.tensorData() as Data
        }
        let given = try zip(runner.outputs, runner.run(sample)).map { spec, output in
            let value = try ORTValue(
                tensorData: NSMutableData(data: output.bytes), elementType: ORTTensorElementDataType(spec.dtype),
                shape: output.shape.map { NSNumber(value: $0) })
            return (spec.name, value)
        }
        return Dictionary(uniqueKeysWithValues: given).filter { outputNames.contains($0.key) }
    }
}
