import Foundation

/// edgeq's runner of one engine, started anew for each execution; EDGEQ_RUNNERS is the folder of both.
public struct EdgeqRunner {
    public struct Tensor: Decodable {
        public let name: String
        public let dtype: String
        public let shape: [Int]
    }

    public struct Failure: Error, CustomStringConvertible {
        public let description: String

        public init(_ description: String) { self.description = description }
    }

    public let inputs: [Tensor]
    public let outputs: [Tensor]
    private let engine: String
    private let model: String

    /// Load the model once, to see whether it can be and what it takes.
    public init(engine: String, model: String) throws {
        self.engine = engine
        self.model = model
        let told = try Self.events(engine, model, Data())
        guard let loaded = told.first(where: { $0.event == "loaded" }) else {
            throw Failure(told.first { $0.event == "error" }?.message ?? "the runner told nothing")
        }
        inputs = loaded.inputs ?? []
        outputs = loaded.outputs ?? []
    }

    /// The outputs' bytes of one sample, the bytes of all inputs one after the other.
    public func run(_ sample: Data) throws -> [(shape: [Int], bytes: Data)] {
        let told = try Self.events(engine, model, sample)
        guard told.last?.event == "done", let output = told.first(where: { $0.event == "output" }) else {
            throw Failure(told.first { $0.event == "error" }?.message ?? "the runner did not finish")
        }
        var rest = output.frame
        return zip(outputs, output.shapes ?? []).map { spec, shape in
            let length = shape.reduce(1, *) * Self.size(spec.dtype)
            defer { rest = rest.dropFirst(length) }
            return (shape, Data(rest.prefix(length)))
        }
    }

    private struct Event: Decodable {
        let event: String
        let message: String?
        let inputs: [Tensor]?
        let outputs: [Tensor]?
        let bytes: Int?
        let shapes: [[Int]]?
        var frame = Data()

        enum CodingKeys: String, CodingKey { case event, message, inputs, outputs, bytes, shapes }
    }

    private static func size(_ dtype: String) -> Int {
        switch dtype {
        case "uint8": 1
        case "int64": 8
        default: 4
        }
    }

    private static func events(_ engine: String, _ model: String, _ sample: Data) throws -> [Event] {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (given, told) = (folder.appendingPathComponent("in"), folder.appendingPathComponent("out"))
        try sample.write(to: given)
        try Data().write(to: told)
        let process = Process()
        let runners = ProcessInfo.processInfo.environment["EDGEQ_RUNNERS"] ?? ""
        process.executableURL = URL(fileURLWithPath: "\(runners)/edgeq-runner-\(engine)")
        process.arguments = ["run", "--model", model]
        process.standardInput = try FileHandle(forReadingFrom: given)
        process.standardOutput = try FileHandle(forWritingTo: told)
        try process.run()
        process.waitUntilExit()
        return try parsed(Data(contentsOf: told))
    }

    private static func parsed(_ data: Data) throws -> [Event] {
        var (found, rest): ([Event], Data) = ([], data)
        while let end = rest.firstIndex(of: 0x0a) {
            var event = try JSONDecoder().decode(Event.self, from: rest[..<end])
            rest = rest[(end + 1)...]
            if event.event == "output", let count = event.bytes {
                event.frame = rest.prefix(count)
                rest = rest.dropFirst(count + 1)
            }
            found.append(event)
        }
        return found
    }
}
