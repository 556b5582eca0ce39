// Runs a fuzz target once for each file that it is given, as libFuzzer's own main() does: what was found before is not
// to come back, with any compiler and without libFuzzer. A target that finds something ends the program.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/types/span.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);

namespace {

std::vector<char> contentOf(const std::filesystem::path& path) {
  std::ifstream file;
  file.exceptions(std::ios::badbit | std::ios::failbit);
  file.open(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// From memory of just its size, so that a sanitizer sees who reads beyond it.
void replay(const std::filesystem::path& path) {
  std::printf("%s\n", path.c_str());
  std::fflush(stdout);  // so that it is known at whose turn the program ends
  const std::vector<char> content = contentOf(path);
  const std::vector<uint8_t> exact(content.begin(), content.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Span<char* const> files(argv + 1, static_cast<std::size_t>(argc) - 1);
  if (files.empty()) {
    std::fprintf(stderr, "no files to replay\n");
    return 2;
  }
  try {
    for (const char* const file : files) {
      replay(file);
    }
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
  std::printf("replayed %zu files\n", files.size());
  return 0;
}
