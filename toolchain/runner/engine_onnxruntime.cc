// ONNX Runtime through its C API. The library lies beside the runner and is opened by its path: its one symbol carries
// the version of the library, so that a runner linked against it would refuse every other.

#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include <onnxruntime_c_api.h>

#include "engine.h"
#include "failure.h"

namespace edgeq {
namespace {

constexpr char kLibrary[] = "libonnxruntime.so.1";

const OrtApi* api = nullptr;
const char* library_version = "";

std::string FolderOfThisProgram() {
  std::string path(4096, '\0');
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  path.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return path.substr(0, path.rfind('/') + 1);
}

bool Contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// The runtime's own sentence under the code that fits it best; it has codes for few of them.
[[noreturn]] void Throw(OrtStatus* status, Code code) {
  const OrtErrorCode error = api->GetErrorCode(status);
  std::string sentence = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  while (!sentence.empty() && (sentence.back() == '\n' || sentence.back() == ' ')) {
    sentence.pop_back();
  }
  if (error == ORT_NOT_IMPLEMENTED || Contains(sentence, "is not a registered function/op") ||
      Contains(sentence, "No Op registered for")) {
    code = Code::kMissingOperator;
  } else if (Contains(sentence, "bad_alloc") || Contains(sentence, "Failed to allocate memory")) {
    code = Code::kOutOfMemory;
  }
  throw Failure(code, sentence);
}

void Check(OrtStatus* status, Code code) {
  if (status != nullptr) {
    Throw(status, code);
  }
}

// Owns one object of the C API.
template <typename Object>
class Owned {
 public:
  using Release = void (*)(Object*);
  explicit Owned(Release release) : release_(release) {}
  ~Owned() { Reset(); }
  Owned(Owned&& other) noexcept : release_(other.release_), object_(std::exchange(other.object_, nullptr)) {}
  Owned& operator=(Owned&&) = delete;
  Object** out() {
    Reset();
    return &object_;
  }
  Object* get() const { return object_; }

 private:
  void Reset() {
    if (object_ != nullptr) {
      release_(object_);
      object_ = nullptr;
    }
  }
  Release release_;
  Object* object_ = nullptr;
};

// A folder that is gone, with the files in it, when this is.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* parent = std::getenv("TMPDIR");
    path_ = std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/edgeq-profile-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) {
      throw Failure(Code::kExecutionFailed, "a profile needs a temporary file, and " + path_ +
                                                " cannot be made: " + std::strerror(errno));
    }
  }
  ~TemporaryFolder() {
    if (DIR* folder = opendir(path_.c_str())) {
      while (const dirent* entry = readdir(folder)) {
        unlink((path_ + "/" + entry->d_name).c_str());  // refuses "." and ".."
      }
      closedir(folder);
    }
    rmdir(path_.c_str());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  static std::string Read(const std::string& file) {
    std::ifstream stream(file, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    if (!stream) {
      throw Failure(Code::kExecutionFailed, "the profile " + file + " cannot be read");
    }
    return content;
  }

 private:
  std::string path_;
};

struct Element {
  const char* name;
  std::size_t bytes;
};

Element ElementOf(ONNXTensorElementDataType type, const std::string& what) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return {"uint8", 1};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
      return {"int8", 1};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return {"bool", 1};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
      return {"uint16", 2};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
      return {"int16", 2};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return {"float16", 2};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16:
      return {"bfloat16", 2};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32:
      return {"uint32", 4};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return {"int32", 4};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return {"float32", 4};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64:
      return {"uint64", 8};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return {"int64", 8};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
      return {"float64", 8};
    default:
      throw Failure(Code::kUnsupported, what + " has a dtype that this runner does not carry");
  }
}

struct Input {
  ONNXTensorElementDataType type;
  Shape shape;
  std::size_t bytes;
};

class OnnxRuntimeEngine : public Engine {
 public:
  explicit OnnxRuntimeEngine(const LoadOptions& options) : session_(api->ReleaseSession) {
    CreateSession(options);
    Check(api->GetAllocatorWithDefaultOptions(&allocator_), Code::kCannotLoad);
    Check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, memory_.out()), Code::kCannotLoad);
    DescribeInputs(options.shapes);
    std::size_t count = 0;
    Check(api->SessionGetOutputCount(session_.get(), &count), Code::kCannotLoad);
    for (std::size_t i = 0; i < count; ++i) {
      ONNXTensorElementDataType type;
      outputs_.push_back(Describe(i, false, &type));
    }
    results_.resize(count, nullptr);
    for (const TensorInfo& output : outputs_) {
      output_names_.push_back(output.name.c_str());
    }
    for (const TensorInfo& input : inputs_) {
      input_names_.push_back(input.name.c_str());
    }
  }

  ~OnnxRuntimeEngine() override { ReleaseResults(); }

  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }
  std::string runtime_version() const override { return library_version; }
  const std::vector<std::string>& backends() const override { return backends_; }
  std::optional<std::int64_t> planned_bytes() const override { return std::nullopt; }
  std::size_t sample_bytes() const override { return sample_bytes_; }

  void SetInputs(const std::byte* sample) override {
    arguments_.clear();
    for (std::size_t i = 0; i < input_tensors_.size(); ++i) {
      const Input& input = input_tensors_[i];
      // The runtime only reads it.
      void* data = const_cast<std::byte*>(sample);
      Check(api->CreateTensorWithDataAsOrtValue(memory_.get(), data, input.bytes, input.shape.data(),
                                                input.shape.size(), input.type, input_values_[i].out()),
            Code::kWrongSize);
      arguments_.push_back(input_values_[i].get());
      sample += input.bytes;
    }
    ReleaseResults();
  }

  void Execute() override {
    OrtStatus* status = api->Run(session_.get(), nullptr, input_names_.data(), arguments_.data(), arguments_.size(),
                                 output_names_.data(), output_names_.size(), results_.data());
    Check(status, Code::kExecutionFailed);
  }

  void Outputs(std::vector<std::byte>& bytes, std::vector<Shape>& shapes) override {
    bytes.clear();
    shapes.clear();
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const std::string what = "output " + outputs_[i].name;
      int is_tensor = 0;
      Check(api->IsTensor(results_[i], &is_tensor), Code::kExecutionFailed);
      if (is_tensor == 0) {
        throw Failure(Code::kUnsupported, what + " is not a tensor");
      }
      Owned<OrtTensorTypeAndShapeInfo> info(api->ReleaseTensorTypeAndShapeInfo);
      Check(api->GetTensorTypeAndShape(results_[i], info.out()), Code::kExecutionFailed);
      ONNXTensorElementDataType type;
      Check(api->GetTensorElementType(info.get(), &type), Code::kExecutionFailed);
      Shape shape = ShapeOf(info.get());
      void* data = nullptr;
      Check(api->GetTensorMutableData(results_[i], &data), Code::kExecutionFailed);
      const std::size_t size = ByteSize(shape, ElementOf(type, what).bytes);
      const std::size_t start = bytes.size();
      bytes.resize(start + size);
      if (size > 0) {
        std::memcpy(bytes.data() + start, data, size);
      }
      shapes.push_back(std::move(shape));
    }
  }

  Profile TakeProfile() override {
    char* name = nullptr;
    Check(api->SessionEndProfiling(session_.get(), allocator_, &name), Code::kExecutionFailed);
    const std::string file = name;
    Check(api->AllocatorFree(allocator_, name), Code::kExecutionFailed);
    Profile profile = {"onnxruntime", TemporaryFolder::Read(file)};
    profile_folder_.reset();
    return profile;
  }

 private:
  // The runtime makes the outputs anew in each execution.
  void ReleaseResults() {
    for (OrtValue*& result : results_) {
      if (result != nullptr) {
        api->ReleaseValue(std::exchange(result, nullptr));
      }
    }
  }

  void CreateSession(const LoadOptions& options) {
    // Warnings of the environment ("unknown CPU vendor") are for stderr, errors come back as a status as well.
    Check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgeq", environment_.out()), Code::kCannotLoad);
    Owned<OrtSessionOptions> settings(api->ReleaseSessionOptions);
    Check(api->CreateSessionOptions(settings.out()), Code::kCannotLoad);
    Check(api->SetIntraOpNumThreads(settings.get(), options.threads), Code::kCannotLoad);
    Check(api->SetInterOpNumThreads(settings.get(), 1), Code::kCannotLoad);
    Check(api->SetSessionExecutionMode(settings.get(), ORT_SEQUENTIAL), Code::kCannotLoad);
    Check(api->SetSessionGraphOptimizationLevel(settings.get(), ORT_ENABLE_ALL), Code::kCannotLoad);
    // The default on ARM. On x86 the runtime would compute int8 activations in float, and give what no board gives.
    Check(api->AddSessionConfigEntry(settings.get(), "session.qdqisint8allowed", "1"), Code::kCannotLoad);
    if (options.count_instructions) {
      for (const char* key : {"session.intra_op.allow_spinning", "session.inter_op.allow_spinning"}) {
        Check(api->AddSessionConfigEntry(settings.get(), key, "0"), Code::kCannotLoad);
      }
    }
    if (options.profile) {
      profile_folder_ = std::make_unique<TemporaryFolder>();
      Check(api->EnableProfiling(settings.get(), (profile_folder_->path() + "/profile").c_str()), Code::kCannotLoad);
    }
    if (access(options.path.c_str(), R_OK) != 0) {
      throw Failure(Code::kCannotLoad, "the model file " + options.path + " cannot be opened: " +
                                           std::strerror(errno));
    }
    Check(api->CreateSession(environment_.get(), options.path.c_str(), settings.get(), session_.out()),
          Code::kCannotLoad);
  }

  static Shape ShapeOf(const OrtTensorTypeAndShapeInfo* info) {
    std::size_t dimensions = 0;
    Check(api->GetDimensionsCount(info, &dimensions), Code::kCannotLoad);
    Shape shape(dimensions);
    Check(api->GetDimensions(info, shape.data(), dimensions), Code::kCannotLoad);
    return shape;
  }

  TensorInfo Describe(std::size_t index, bool input, ONNXTensorElementDataType* type) {
    TensorInfo described;
    char* name = nullptr;
    Check(input ? api->SessionGetInputName(session_.get(), index, allocator_, &name)
                : api->SessionGetOutputName(session_.get(), index, allocator_, &name),
          Code::kCannotLoad);
    described.name = name;
    Check(api->AllocatorFree(allocator_, name), Code::kCannotLoad);
    Owned<OrtTypeInfo> info(api->ReleaseTypeInfo);
    Check(input ? api->SessionGetInputTypeInfo(session_.get(), index, info.out())
                : api->SessionGetOutputTypeInfo(session_.get(), index, info.out()),
          Code::kCannotLoad);
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    Check(api->CastTypeInfoToTensorInfo(info.get(), &tensor), Code::kCannotLoad);
    const std::string what = (input ? "input " : "output ") + described.name;
    if (tensor == nullptr) {
      throw Failure(Code::kUnsupported, what + " is not a tensor");
    }
    Check(api->GetTensorElementType(tensor, type), Code::kCannotLoad);
    described.dtype = ElementOf(*type, what).name;
    described.shape = ShapeOf(tensor);
    return described;
  }

  void DescribeInputs(const std::vector<Shape>& shapes) {
    std::size_t count = 0;
    Check(api->SessionGetInputCount(session_.get(), &count), Code::kCannotLoad);
    if (!shapes.empty() && shapes.size() != count) {
      throw Failure(Code::kWrongSize, "the model has " + std::to_string(count) + " inputs, and " +
                                          std::to_string(shapes.size()) + " shapes were given");
    }
    for (std::size_t i = 0; i < count; ++i) {
      ONNXTensorElementDataType type;
      TensorInfo info = Describe(i, true, &type);
      if (!shapes.empty()) {
        info.shape = shapes[i];
      }
      for (const std::int64_t size : info.shape) {
        if (size < 0) {
          throw Failure(Code::kWrongSize, "the model leaves a size of input " + info.name + " open; give --shapes");
        }
      }
      const std::size_t bytes = ByteSize(info.shape, ElementOf(type, info.name).bytes);
      if (__builtin_add_overflow(sample_bytes_, bytes, &sample_bytes_)) {
        throw Failure(Code::kWrongSize, "the inputs are too large");
      }
      input_tensors_.push_back({type, info.shape, bytes});
      inputs_.push_back(std::move(info));
      input_values_.emplace_back(api->ReleaseValue);
    }
  }

  Owned<OrtEnv> environment_{api->ReleaseEnv};
  Owned<OrtSession> session_;
  Owned<OrtMemoryInfo> memory_{api->ReleaseMemoryInfo};
  OrtAllocator* allocator_ = nullptr;
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
  std::vector<std::string> backends_;
  std::vector<Input> input_tensors_;
  std::size_t sample_bytes_ = 0;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  std::vector<Owned<OrtValue>> input_values_;
  std::vector<const OrtValue*> arguments_;
  std::vector<OrtValue*> results_;
  std::unique_ptr<TemporaryFolder> profile_folder_;
};

}  // namespace

void OpenRuntime() {
  const std::string path = FolderOfThisProgram() + kLibrary;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Failure(Code::kCannotLoad, std::string("the runtime cannot be loaded: ") + dlerror());
  }
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetApiBase>(dlsym(library, "OrtGetApiBase"));
  if (get_base == nullptr) {
    throw Failure(Code::kCannotLoad, path + " is not ONNX Runtime");
  }
  library_version = get_base()->GetVersionString();
  api = get_base()->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Failure(Code::kCannotLoad, std::string("ONNX Runtime ") + library_version + " is too old for this runner");
  }
}

std::unique_ptr<Engine> LoadEngine(const LoadOptions& options) {
  return std::make_unique<OnnxRuntimeEngine>(options);
}

const char* EngineName() { return "onnxruntime"; }

}  // namespace edgeq
