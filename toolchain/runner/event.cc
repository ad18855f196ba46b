#include "event.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <unistd.h>
#include <utility>

#include "failure.h"

namespace edgeq {
namespace {

constexpr std::size_t kMostQueued = 64 * 1024;

// The length of the valid UTF-8 sequence at the start of `text`, 0 if there is none (RFC 3629).
std::size_t SequenceLength(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    return 1;
  }
  std::size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    low = lead == 0xE0 ? 0xA0 : 0x80;
    high = lead == 0xED ? 0x9F : 0xBF;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    low = lead == 0xF0 ? 0x90 : 0x80;
    high = lead == 0xF4 ? 0x8F : 0xBF;
  }
  if (length == 0 || text.size() < length || byte(1) < low || byte(1) > high) {
    return 0;
  }
  for (std::size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) {
      return 0;
    }
  }
  return length;
}

}  // namespace

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  while (!text.empty()) {
    const std::size_t length = SequenceLength(text);
    const char c = text[0];
    if (length == 0) {
      quoted += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return quoted + '"';
}

std::string ShapeJson(const std::vector<std::int64_t>& shape) {
  std::string json = "[";
  for (const std::int64_t size : shape) {
    json += (json.size() > 1 ? "," : "") + std::to_string(size);
  }
  return json + ']';
}

Event::Event(std::string_view name) : json_("{") { Text("event", name); }

void Event::Key(std::string_view key) {
  if (json_.size() > 1) {
    json_ += ',';
  }
  json_ += Quoted(key) + ':';
}

Event& Event::Text(std::string_view key, std::string_view value) {
  Key(key);
  json_ += Quoted(value);
  return *this;
}

Event& Event::Number(std::string_view key, std::int64_t value) {
  Key(key);
  json_ += std::to_string(value);
  return *this;
}

Event& Event::Number(std::string_view key, std::optional<std::int64_t> value) {
  return value ? Number(key, *value) : Null(key);
}

Event& Event::Null(std::string_view key) {
  Key(key);
  json_ += "null";
  return *this;
}

Event& Event::Json(std::string_view key, std::string_view json) {
  Key(key);
  json_ += json;
  return *this;
}

std::string Event::Line() const { return json_ + "}\n"; }

void EventWriter::Write(const Event& event) {
  queue_ += event.Line();
  Flush();
}

void EventWriter::Queue(const Event& event) {
  const std::string line = event.Line();
  Queue(line.data(), line.size());
}

void EventWriter::Queue(const void* data, std::size_t size) {
  queue_.append(static_cast<const char*>(data), size);
  if (queue_.size() >= kMostQueued) {
    Flush();
  }
}

void EventWriter::Flush() {
  // Whatever happens, nothing is written twice.
  const std::string queued = std::exchange(queue_, {});
  const char* next = queued.data();
  std::size_t size = queued.size();
  while (size > 0) {
    const ssize_t written = write(descriptor_, next, size);
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw Failure(Code::kCannotWrite, std::string("cannot write to stdout: ") + std::strerror(errno));
    }
    next += written;
    size -= static_cast<std::size_t>(written);
  }
}

}  // namespace edgeq
