// ExecuTorch: Program and Method with a memory manager of our own, so that the planned arenas can be told. All that knows
// this runtime is in this one file, so that no other has to be compiled against it.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/core/event_tracer.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/core/exec_aten/util/dim_order_util.h>
#include <executorch/runtime/core/exec_aten/util/scalar_type_util.h>
#include <executorch/runtime/core/hierarchical_allocator.h>
#include <executorch/runtime/executor/memory_manager.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>

#include "engine.h"
#include "error_log.h"
#include "failure.h"
#include "operator_times.h"

// The wheel ships the library of this class without its header (extension/threadpool/threadpool.h). Only these two
// functions of it are called, never a constructor, so its fields do not matter here.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(std::uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace edgeq {
namespace {

namespace et = executorch::runtime;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::MmapDataLoader;
using et::Error;

ErrorLog& Log() {
  static ErrorLog log;
  return log;
}

void OnLog(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, std::size_t, const char* message,
           std::size_t size) {
  if (level == et_pal_log_level_t::kError || level == et_pal_log_level_t::kFatal) {
    Log().Add({message, size});
    std::fprintf(stderr, "executorch: %.*s\n", static_cast<int>(size), message);
  }
}

// ET_CHECK inside the runtime ends here; it cannot be returned from.
[[noreturn]] void OnAbort() {
  const std::string sentence = std::string("the runtime gave up while ") + Phase() + ": " + Log().Text();
  FailNow(std::strcmp(Phase(), "loading the model") == 0 ? Code::kCannotLoad : Code::kExecutionFailed,
          sentence.c_str());
}

void Check(Error error, Code code, const std::string& what) {
  if (error == Error::Ok) {
    return;
  }
  if (error == Error::OperatorMissing) {
    throw Failure(Code::kMissingOperator, "this runtime has no kernel for: " + Log().MissingOperators());
  }
  const std::string log = Log().Text();
  // A tensor outside of its arena has the same error, and is a damaged plan.
  if ((error == Error::MemoryAllocationFailed && log.find("allocator size") == std::string::npos) ||
      error == Error::DelegateMemoryAllocationFailed || error == Error::OutOfResources ||
      log.find("xnn_status_out_of_memory") != std::string::npos) {  // the delegate makes an internal error of it
    code = Code::kOutOfMemory;
  }
  throw Failure(code, what + " (" + et::to_string(error) + ")" + (log.empty() ? "" : ": " + log));
}

const char* DtypeName(executorch::aten::ScalarType type) {
  using executorch::aten::ScalarType;
  switch (type) {
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::UInt16:
      return "uint16";
    case ScalarType::UInt32:
      return "uint32";
    case ScalarType::UInt64:
      return "uint64";
    case ScalarType::BFloat16:
      return "bfloat16";
    default:
      return nullptr;
  }
}

std::int64_t Nanoseconds(et_timestamp_t ticks) {
  static const et_tick_ratio_t ratio = et::pal_ticks_to_ns_multiplier();
  return static_cast<std::int64_t>(ticks * ratio.numerator / ratio.denominator);
}

// Keeps what each operator took. The runtime calls it around each instruction, with names of its own for the kinds;
// what runs inside of a delegate is told after it ran, with XNNPACK's names.
class Tracer : public et::EventTracer {
 public:
  OperatorTimes& times() { return times_; }

  et::EventTracerEntry start_profiling(const char* name, et::ChainID chain, et::DebugHandle) override {
    et::EventTracerEntry entry = {};
    entry.chain_id = chain;
    entry.event_id = kNotAnOperator;
    const std::string_view said = name;
    if (said == "OPERATOR_CALL" || said == "DELEGATE_CALL") {
      entry.event_id = kInstruction;
      kernel_.clear();
    } else if (said.substr(0, kKernel.size()) == kKernel) {
      kernel_ = said.substr(kKernel.size());
    }
    entry.start_time = et::pal_current_ticks();
    return entry;
  }

  void end_profiling(et::EventTracerEntry entry) override {
    if (entry.event_id == kInstruction) {
      const et_timestamp_t now = et::pal_current_ticks();
      // A delegate has no kernel: what it took beside its operators has its own entry.
      times_.Add(kernel_.empty() ? "delegate" : kernel_, kernel_.empty() ? OperatorTimes::Kind::kDelegate
                                                                         : OperatorTimes::Kind::kKernel,
                 Nanoseconds(now - entry.start_time));
    }
  }

  void log_profiling_delegate(const char* name, et::DelegateDebugIntId, et_timestamp_t start, et_timestamp_t end,
                              const void*, std::size_t) override {
    times_.Add(name, OperatorTimes::Kind::kDelegated, Nanoseconds(end - start));
  }

  et::EventTracerEntry start_profiling_delegate(const char*, et::DelegateDebugIntId) override { return {}; }
  void end_profiling_delegate(et::EventTracerEntry, const void*, std::size_t) override {}
  void create_event_block(const char*) override {}
  void track_allocation(et::AllocatorID, std::size_t) override {}
  et::AllocatorID track_allocator(const char*) override { return 0; }
  et::Result<bool> log_evalue(const et::EValue&, et::LoggedEValueType) override { return false; }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId,
                                                    const executorch::aten::Tensor&) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId,
                                                    const et::ArrayRef<executorch::aten::Tensor>) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const int&) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const bool&) override {
    return false;
  }
  et::Result<bool> log_intermediate_output_delegate(const char*, et::DelegateDebugIntId, const double&) override {
    return false;
  }
  void set_delegation_intermediate_output_filter(et::EventTracerFilterBase*) override {}

 private:
  static constexpr std::string_view kKernel = "native_call_";
  static constexpr std::int64_t kNotAnOperator = 0;
  static constexpr std::int64_t kInstruction = 1;
  OperatorTimes times_;
  std::string kernel_;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::uint8_t[], Free>;

Memory Allocate(std::size_t size) {
  // calloc: pages that the model never touches take no memory. One byte more: an empty arena is one, too.
  Memory memory(static_cast<std::uint8_t*>(std::calloc(1, size + 1)));
  if (!memory) {
    throw Failure(Code::kOutOfMemory, "there is no memory for an arena of " + std::to_string(size) + " bytes");
  }
  return memory;
}

// One input: its description in the runtime's types, and room for a layout that is not C order.
struct Input {
  executorch::aten::ScalarType type;
  Shape shape;
  std::vector<executorch::aten::SizesType> sizes;
  std::vector<executorch::aten::DimOrderType> dim_order;
  std::vector<executorch::aten::StridesType> strides;
  std::vector<std::size_t> order;
  std::size_t element_bytes;
  std::size_t bytes;
  Memory reordered;
};

class ExecuTorchEngine : public Engine {
 public:
  explicit ExecuTorchEngine(const LoadOptions& options) {
    SetThreads(options.threads);
    LoadProgram(options.path);
    const std::string method = MethodName();
    auto meta = program_->method_meta(method.c_str());
    Check(meta.error(), Code::kCannotLoad, "the description of method '" + method + "' is damaged");
    NameBackends(*meta);
    PlanMemory(*meta);
    DescribeInputs(*meta, options.shapes);
    DescribeOutputs(*meta);
    if (options.profile) {
      tracer_ = std::make_unique<Tracer>();
    }
    auto loaded = program_->load_method(method.c_str(), memory_manager_.get(), tracer_.get());
    Check(loaded.error(), Code::kCannotLoad, "method '" + method + "' cannot be loaded");
    method_ = std::make_unique<et::Method>(std::move(*loaded));
    ProvideOutputs(*meta);
  }

  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }
  std::string runtime_version() const override { return EDGEQ_RUNTIME_VERSION; }
  const std::vector<std::string>& backends() const override { return backends_; }
  std::optional<std::int64_t> planned_bytes() const override { return planned_bytes_; }
  std::size_t sample_bytes() const override { return sample_bytes_; }

  void SetInputs(const std::byte* sample) override {
    for (std::size_t i = 0; i < input_tensors_.size(); ++i) {
      Input& input = input_tensors_[i];
      // The runtime only reads it: planned inputs are copied, others are used where they are.
      void* data = const_cast<std::byte*>(sample);
      if (input.reordered) {
        FromCOrder(sample, input.reordered.get(), input.shape, input.order, input.element_bytes);
        data = input.reordered.get();
      }
      executorch::aten::TensorImpl tensor(input.type, static_cast<ssize_t>(input.sizes.size()), input.sizes.data(),
                                          data, input.dim_order.data(), input.strides.data());
      Check(method_->set_input(et::EValue(executorch::aten::Tensor(&tensor)), i), Code::kWrongSize,
            "input " + std::to_string(i) + " does not take the shape " + ShapeText(input.shape));
      sample += input.bytes;
    }
  }

  void Execute() override {
    if (tracer_) {
      tracer_->times().BeginExecution();
    }
    Check(method_->execute(), Code::kExecutionFailed, "the model failed");
  }

  Profile TakeProfile() override { return {"executorch", tracer_->times().TakeJson()}; }

  void Outputs(std::vector<std::byte>& bytes, std::vector<Shape>& shapes) override {
    bytes.clear();
    shapes.clear();
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const et::EValue& value = method_->get_output(i);
      if (!value.isTensor()) {
        throw Failure(Code::kUnsupported, "output " + std::to_string(i) + " is not a tensor");
      }
      const executorch::aten::Tensor tensor = value.toTensor();
      Shape shape(tensor.sizes().begin(), tensor.sizes().end());
      const std::vector<std::size_t> order(tensor.dim_order().begin(), tensor.dim_order().end());
      const std::size_t start = bytes.size();
      bytes.resize(start + tensor.nbytes());
      if (tensor.nbytes() > 0) {
        if (IsCOrder(order)) {
          std::memcpy(bytes.data() + start, tensor.const_data_ptr(), tensor.nbytes());
        } else {
          ToCOrder(tensor.const_data_ptr(), bytes.data() + start, shape, order,
                   static_cast<std::size_t>(tensor.element_size()));
        }
      }
      shapes.push_back(std::move(shape));
    }
  }

 private:
  static std::string ShapeText(const Shape& shape) {
    std::string text = "(";
    for (const std::int64_t size : shape) {
      text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    }
    return text + ")";
  }

  static void SetThreads(int threads) {
    auto* pool = executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr || !pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(threads))) {
      throw Failure(Code::kExecutionFailed, "the thread pool cannot be set to " + std::to_string(threads));
    }
  }

  void LoadProgram(const std::string& path) {
    auto loader = MmapDataLoader::from(path.c_str(), MmapDataLoader::MlockConfig::NoMlock);
    Check(loader.error(), Code::kCannotLoad, "the model file " + path + " cannot be opened");
    loader_ = std::make_unique<MmapDataLoader>(std::move(*loader));
    auto program = et::Program::load(loader_.get(), et::Program::Verification::InternalConsistency);
    Check(program.error(), Code::kCannotLoad, "the model file " + path + " is damaged or no ExecuTorch program");
    program_ = std::make_unique<et::Program>(std::move(*program));
  }

  // "forward", or the only one there is.
  std::string MethodName() const {
    std::string first;
    for (std::size_t i = 0; i < program_->num_methods(); ++i) {
      auto name = program_->get_method_name(i);
      Check(name.error(), Code::kCannotLoad, "the list of methods is damaged");
      if (std::strcmp(*name, "forward") == 0) {
        return *name;
      }
      first = *name;
    }
    if (program_->num_methods() != 1) {
      throw Failure(Code::kUnsupported, "the model has " + std::to_string(program_->num_methods()) +
                                            " methods, and none is called forward");
    }
    return first;
  }

  void NameBackends(const et::MethodMeta& meta) {
    std::string missing;
    for (std::size_t i = 0; i < meta.num_backends(); ++i) {
      auto name = meta.get_backend_name(i);
      Check(name.error(), Code::kCannotLoad, "the list of backends is damaged");
      bool known = false;
      for (const std::string& other : backends_) {
        known = known || other == *name;
      }
      if (known) {
        continue;
      }
      backends_.emplace_back(*name);
      if (et::get_backend_class(*name) == nullptr) {
        missing += (missing.empty() ? "" : ", ") + std::string(*name);
      }
    }
    if (!missing.empty()) {
      throw Failure(Code::kMissingBackend, "the model was lowered to what this runner has not: " + missing);
    }
  }

  void PlanMemory(const et::MethodMeta& meta) {
    for (std::size_t i = 0; i < meta.num_memory_planned_buffers(); ++i) {
      auto size = meta.memory_planned_buffer_size(i);
      Check(size.error(), Code::kCannotLoad, "the memory plan is damaged");
      // The allocators of the runtime count in 32 bits in places; no model for a board comes near.
      if (*size < 0 || *size > std::numeric_limits<std::uint32_t>::max()) {
        throw Failure(Code::kCannotLoad, "the memory plan asks for " + std::to_string(*size) + " bytes");
      }
      arenas_.push_back(Allocate(static_cast<std::size_t>(*size)));
      spans_.emplace_back(arenas_.back().get(), static_cast<std::size_t>(*size));
      planned_bytes_ += *size;
    }
    planned_memory_ =
        std::make_unique<et::HierarchicalAllocator>(et::Span<et::Span<std::uint8_t>>(spans_.data(), spans_.size()));
    memory_manager_ =
        std::make_unique<et::MemoryManager>(&method_allocator_, planned_memory_.get(), &temporary_allocator_);
  }

  static TensorInfo Info(const et::Result<et::TensorInfo>& tensor, const char* kind, std::size_t index) {
    const std::string what = std::string(kind) + " " + std::to_string(index);
    if (tensor.error() == Error::InvalidArgument) {
      throw Failure(Code::kUnsupported, what + " is not a tensor");
    }
    Check(tensor.error(), Code::kCannotLoad, "the description of " + what + " is damaged");
    const char* dtype = DtypeName(tensor->scalar_type());
    if (dtype == nullptr) {
      throw Failure(Code::kUnsupported, what + " has a dtype that this runner does not carry");
    }
    TensorInfo info;
    info.name = std::string(tensor->name());
    info.dtype = dtype;
    info.shape.assign(tensor->sizes().begin(), tensor->sizes().end());
    return info;
  }

  void DescribeInputs(const et::MethodMeta& meta, const std::vector<Shape>& shapes) {
    if (!shapes.empty() && shapes.size() != meta.num_inputs()) {
      throw Failure(Code::kWrongSize, "the model has " + std::to_string(meta.num_inputs()) + " inputs, and " +
                                          std::to_string(shapes.size()) + " shapes were given");
    }
    for (std::size_t i = 0; i < meta.num_inputs(); ++i) {
      auto tensor = meta.input_tensor_meta(i);
      TensorInfo info = Info(tensor, "input", i);
      if (!shapes.empty()) {
        if (shapes[i].size() != info.shape.size()) {
          throw Failure(Code::kWrongSize, "input " + std::to_string(i) + " has " + std::to_string(info.shape.size()) +
                                              " dimensions");
        }
        info.shape = shapes[i];
      }
      Input input;
      input.type = tensor->scalar_type();
      input.shape = info.shape;
      input.sizes.assign(info.shape.begin(), info.shape.end());
      input.dim_order.assign(tensor->dim_order().begin(), tensor->dim_order().end());
      input.strides.resize(input.sizes.size());
      Check(et::dim_order_to_stride(input.sizes.data(), input.dim_order.data(), input.sizes.size(),
                                    input.strides.data()),
            Code::kCannotLoad, "the layout of input " + std::to_string(i) + " is damaged");
      input.order.assign(input.dim_order.begin(), input.dim_order.end());
      input.element_bytes = et::elementSize(input.type);
      input.bytes = ByteSize(input.shape, input.element_bytes);
      if (!IsCOrder(input.order)) {
        input.reordered = Allocate(input.bytes);
      }
      if (__builtin_add_overflow(sample_bytes_, input.bytes, &sample_bytes_)) {
        throw Failure(Code::kWrongSize, "the inputs are too large");
      }
      inputs_.push_back(std::move(info));
      input_tensors_.push_back(std::move(input));
    }
  }

  void DescribeOutputs(const et::MethodMeta& meta) {
    for (std::size_t i = 0; i < meta.num_outputs(); ++i) {
      outputs_.push_back(Info(meta.output_tensor_meta(i), "output", i));
    }
  }

  // Outputs that the plan gave no place.
  void ProvideOutputs(const et::MethodMeta& meta) {
    for (std::size_t i = 0; i < meta.num_outputs(); ++i) {
      auto tensor = meta.output_tensor_meta(i);
      if (tensor->is_memory_planned()) {
        continue;
      }
      // A constant or an input that is handed through brings its own memory.
      const et::EValue& value = method_->get_output(i);
      if (value.isTensor() && value.toTensor().const_data_ptr() != nullptr) {
        continue;
      }
      arenas_.push_back(Allocate(tensor->nbytes()));
      Check(method_->set_output_data_ptr(arenas_.back().get(), tensor->nbytes(), i), Code::kCannotLoad,
            "output " + std::to_string(i) + " takes no memory");
    }
  }

  // In the order in which they refer to each other; destroyed from the last to the first.
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
  std::vector<std::string> backends_;
  std::vector<Input> input_tensors_;
  std::size_t sample_bytes_ = 0;
  std::int64_t planned_bytes_ = 0;
  std::vector<Memory> arenas_;
  std::vector<et::Span<std::uint8_t>> spans_;
  MallocMemoryAllocator method_allocator_;
  MallocMemoryAllocator temporary_allocator_;
  std::unique_ptr<et::HierarchicalAllocator> planned_memory_;
  std::unique_ptr<et::MemoryManager> memory_manager_;
  std::unique_ptr<MmapDataLoader> loader_;
  std::unique_ptr<et::Program> program_;
  std::unique_ptr<Tracer> tracer_;
  std::unique_ptr<et::Method> method_;
};

}  // namespace

void OpenRuntime() {
  et::runtime_init();
  et::register_pal(et::PalImpl::create(nullptr, OnAbort, nullptr, nullptr, OnLog, nullptr, nullptr, __FILE__));
}

std::unique_ptr<Engine> LoadEngine(const LoadOptions& options) { return std::make_unique<ExecuTorchEngine>(options); }

const char* EngineName() { return "executorch"; }

}  // namespace edgeq
