#include "manifest.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "failure.h"

namespace edgeq {
namespace {

constexpr std::int64_t kSchema = 1;
constexpr std::size_t kLongestName = 255;
constexpr std::size_t kMostFiles = 4096;
constexpr std::size_t kMostDigits = 18;

[[noreturn]] void Refuse(const std::string& problem) {
  throw Failure(Code::kBadManifest, "the manifest is not one that this runner understands: " + problem);
}

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// The part of JSON (RFC 8259) that a manifest is written in: objects, strings and whole numbers, no space between them.
// What comes next is always known, so nothing recurses.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  // Calls `read` with each key; it reads the value.
  void Object(const std::function<void(const std::string& key)>& read) {
    std::set<std::string> seen;
    Take('{');
    while (Next() != '}') {
      if (!seen.empty()) {
        Take(',');
      }
      const std::string key = Text();
      if (!seen.insert(key).second) {
        Refuse("'" + key + "' stands there twice");
      }
      Take(':');
      read(key);
    }
    Take('}');
  }

  std::string Text() {
    Take('"');
    std::string text;
    while (Next() != '"') {
      char c = Take();
      if (c == '\\') {
        c = Take();
        if (c != '"' && c != '\\') {
          Refuse("a text holds an escape that none needs");
        }
      }
      if (IsControl(c)) {
        Refuse("a text holds a control character");
      }
      text += c;
    }
    Take('"');
    return text;
  }

  std::int64_t Number() {
    const std::size_t digits = std::min(text_.find_first_not_of("0123456789"), text_.size());
    if (digits == 0 || digits > kMostDigits || (digits > 1 && text_[0] == '0')) {
      Refuse("a whole number is missing or out of bounds");
    }
    std::int64_t number = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      number = 10 * number + (Take() - '0');
    }
    return number;
  }

  void End() const {
    if (!text_.empty()) {
      Refuse("something follows its end");
    }
  }

 private:
  // '\0', which no manifest holds, at the end.
  char Next() const { return text_.empty() ? '\0' : text_[0]; }

  char Take() {
    if (text_.empty()) {
      Refuse("it is cut short");
    }
    const char c = text_[0];
    text_.remove_prefix(1);
    return c;
  }

  void Take(char wanted) {
    if (Take() != wanted) {
      Refuse(std::string("there is no '") + wanted + "' where one is due");
    }
  }

  std::string_view text_;
};

// Remembers which of its keys an object has had.
class Keys {
 public:
  explicit Keys(std::set<std::string> due) : due_(std::move(due)) {}

  void Have(const std::string& key) {
    if (due_.erase(key) == 0) {
      Refuse("it has a key '" + key + "'");
    }
  }

  void End() const {
    if (!due_.empty()) {
      Refuse("it has no key '" + *due_.begin() + "'");
    }
  }

 private:
  std::set<std::string> due_;
};

std::string Sha256Text(Reader& reader) {
  const std::string text = reader.Text();
  if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    Refuse("'" + text + "' is no sha256");
  }
  return text;
}

bool IsModel(const std::string& role) {
  if (role != "model" && role != "runtime") {
    Refuse("'" + role + "' is no role of a file");
  }
  return role == "model";
}

ManifestFile File(Reader& reader) {
  ManifestFile file;
  Keys keys({"role", "runner", "sha256", "size"});
  reader.Object([&](const std::string& key) {
    keys.Have(key);
    if (key == "role") {
      file.is_model = IsModel(reader.Text());
    } else if (key == "runner") {
      file.runner = reader.Text();
    } else if (key == "sha256") {
      file.sha256 = Sha256Text(reader);
    } else {
      file.size = reader.Number();
    }
  });
  keys.End();
  return file;
}

}  // namespace

bool IsFileName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) { return c == '/' || IsControl(c); });
}

DeviceManifest ParseManifest(std::string_view json) {
  Reader reader(json);
  DeviceManifest manifest;
  Keys keys({"files", "id", "model", "schema", "serial", "target"});
  reader.Object([&](const std::string& key) {
    keys.Have(key);
    if (key == "files") {
      reader.Object([&](const std::string& name) {
        if (!IsFileName(name) || manifest.files.size() == kMostFiles) {
          Refuse("'" + name + "' is no file of its folder, or there are too many");
        }
        manifest.files[name] = File(reader);
      });
    } else if (key == "schema") {
      if (reader.Number() != kSchema) {
        Refuse("it is of another schema");
      }
    } else if (key == "serial") {
      manifest.serial = reader.Number();
    } else {
      std::string& text = key == "id" ? manifest.id : key == "model" ? manifest.model : manifest.target;
      text = reader.Text();
    }
  });
  reader.End();
  keys.End();
  for (const auto& [name, file] : manifest.files) {
    const auto runner = manifest.files.find(file.runner);
    if (runner == manifest.files.end() || runner->second.is_model || runner->second.runner != file.runner) {
      Refuse("'" + name + "' belongs to no runner of it");
    }
  }
  return manifest;
}

}  // namespace edgeq
