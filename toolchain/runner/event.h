// Events: one JSON object a line, output frames after their line. README.md is the specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace edgeq {

// Builds one flat JSON object; keys are written in the order of the calls.
class Event {
 public:
  explicit Event(std::string_view name);
  Event& Text(std::string_view key, std::string_view value);
  Event& Number(std::string_view key, std::int64_t value);
  // null where there is no value.
  Event& Number(std::string_view key, std::optional<std::int64_t> value);
  Event& Null(std::string_view key);
  // `json` is valid JSON already.
  Event& Json(std::string_view key, std::string_view json);
  // The object and a line feed.
  std::string Line() const;

 private:
  void Key(std::string_view key);
  std::string json_;
};

// A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
std::string Quoted(std::string_view text);

// [1,3,224,224]
std::string ShapeJson(const std::vector<std::int64_t>& shape);

// Writes events and frames to a descriptor, whole and in order. Each call throws Failure(kCannotWrite) when nobody
// reads any more.
class EventWriter {
 public:
  explicit EventWriter(int descriptor) : descriptor_(descriptor) {}
  // At once, after all that was queued.
  void Write(const Event& event);
  // Small outputs go out together: a system call and a packet for each would cost more than their execution.
  void Queue(const Event& event);
  void Queue(const void* data, std::size_t size);
  void Flush();

 private:
  int descriptor_;
  std::string queue_;
};

}  // namespace edgeq
