#include "io/script_code.hpp"
#include "io/script_growth.hpp"
#include "sentinel/io/script_file.hpp"
#include "unit/io_support.hpp"

namespace sentinel {
namespace {

using namespace test;
using testing::HasSubstr;

std::string checked(const std::string& code) {
  const std::string source = "net.ts";
  try {
    ScriptCode({{"code/__torch__/net.py", "__torch__.net", code}}, source).check();
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

/// A module whose forward has these lines.
std::string module(const std::string& lines) {
  return "class Net(Module):\n"
         "  __parameters__ = [\"weight\", ]\n"
         "  __buffers__ = []\n"
         "  weight : Tensor\n"
         "  steps : Final[int] = 0\n"
         "  __annotations__[\"0\"] = __torch__.net.Part\n"
         "  def forward(self: __torch__.net.Net,\n    x: Tensor) -> Tensor:\n" +
         lines +
         "class Part(Module):\n"
         "  __parameters__ = []\n"
         "  __buffers__ = []\n";
}

TEST(ScriptOperators, AreFoundInTheSortedList) {
  for (const char* name : {"Bool", "__and__", "_convolution", "abs", "conv2d", "relu_", "where",
                           "zeros_like", "t", "tolist", "floor_divide"})
    EXPECT_TRUE(is_script_operator(name)) << name;
  for (const char* name : {"from_file", "save", "as_strided", "set_", "resize_", "", "conv"})
    EXPECT_FALSE(is_script_operator(name)) << name;
}

TEST(ScriptCode, HeadsOfClassesAreRead) {
  const std::string source = "net.ts", code = module("    return x\n");
  const ScriptCode read({{"code/__torch__/net.py", "__torch__.net", code}}, source);
  const ScriptClass& net = read.classes().at("__torch__.net.Net");
  EXPECT_TRUE(net.is_module);
  EXPECT_THAT(net.parameters, testing::ElementsAre("weight"));
  EXPECT_THAT(net.attributes,
              testing::ElementsAre(std::pair<std::string, std::string>("weight", "Tensor"),
                                   std::pair<std::string, std::string>("0", "__torch__.net.Part")));
  EXPECT_EQ(checked(code), "");
}

TEST(ScriptCode, WhatIsRefusedIsNamedWithItsLine) {
  const auto refused = [](const std::string& line) {
    return checked(module("    " + line + "\n"));
  };
  EXPECT_THAT(refused("y = torch.save(x, \"a\")"),
              HasSubstr("net.ts: code/__torch__/net.py, line 9: the operator 'torch.save'"));
  EXPECT_THAT(refused("y = (x).set_(x, )"), HasSubstr("'set_'"));
  EXPECT_THAT(refused("y = ops.prim.rpc_async(x)"), HasSubstr("'ops.prim.rpc_async'"));
  EXPECT_THAT(refused("y = print(x)"), HasSubstr("'print' is not known"));
  EXPECT_THAT(refused("y = __torch__.other.f(x)"), HasSubstr("no file of the archive defines"));
  EXPECT_THAT(refused("y = x * x"), HasSubstr("the character '*'"));
  EXPECT_THAT(refused("y = \"a\\\\\""), HasSubstr("two backslashes"));
  EXPECT_THAT(refused("y = \"\"\"a\"\"\""), HasSubstr("three quotes"));
  EXPECT_THAT(refused("y = [x"), HasSubstr("never closed"));
  EXPECT_THAT(refused("for y in (1, 2):\n      pass"), HasSubstr("something else than range()"));
  EXPECT_THAT(refused("y = [x for x in range(3)]"), HasSubstr("inside of an expression"));
  EXPECT_THAT(refused("y = annotate(Optional[], None)"), HasSubstr("empty brackets"));
  EXPECT_EQ(refused("y = annotate(List[int], [])"), "");
  std::string many = "x";
  for (int i = 0; i < 1000; ++i) many += ", x" + std::to_string(i) + "=1";
  EXPECT_THAT(checked("def f(" + many + "):\n  return x\n"), HasSubstr("more arguments"));
  EXPECT_EQ(refused("return []"), "");
  EXPECT_EQ(refused("y = torch.add(x, x)"), "");
}

/// Whatever LibTorch would take for a constant, and may therefore compute while it compiles.
TEST(ScriptGrowth, DivisionsOfConstantsAreSeen) {
  const auto refused = [](const std::string& lines) {
    return checked(module(lines)).find("divides constants") != std::string::npos;
  };
  EXPECT_TRUE(refused("    y = torch.remainder(7, 0)\n"));
  EXPECT_TRUE(refused("    y = torch.sub(1, 1)\n    z = torch.floordiv(7, y)\n"));
  EXPECT_TRUE(refused("    y = torch.remainder(7, self.steps)\n"));
  EXPECT_TRUE(refused("    y = torch.remainder(7, getattr(self, \"steps\"))\n"));
  EXPECT_TRUE(refused("    y = torch.remainder(7, int(CONSTANTS.c0))\n"));
  EXPECT_TRUE(
      refused("    y = torch.size(x, 0)\n    if True:\n      y = 0\n    else:\n      pass\n"
              "    z = torch.remainder(7, y)\n"));
  EXPECT_FALSE(refused("    y = torch.remainder(torch.size(x, 0), 2)\n"));
  EXPECT_FALSE(refused("    n, c, = torch.size(x)\n    y = torch.floordiv(c, 2)\n"));
}

TEST(ScriptGrowth, TextsThatDoubleAreSeen) {
  std::string lines = "    a = \"text\"\n";
  for (int i = 0; i < 40; ++i) lines += "    a = torch.add(a, a)\n";
  EXPECT_THAT(checked(module(lines)), HasSubstr("texts or tuples of themselves"));
  lines = "    a = x\n";
  for (int i = 0; i < 400; ++i) lines += "    a = torch.add(a, torch.relu(a))\n";
  EXPECT_EQ(checked(module(lines)), "");  // a residual network
}

// ---- archives that are small, and would fill the memory or run for hours
// -------------------------

std::string text(const std::string& value) {
  const auto size = static_cast<std::uint32_t>(value.size());
  return "X" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + value;
}

std::string object(const std::string& name, const std::string& attributes) {
  return "c__torch__.net\n" + name + "\n)\x81}(" + attributes + "ub";
}

/// A network of these attributes. Other classes may follow in its code.
Bytes archive(const std::string& attributes, const std::string& pickle,
              const std::string& classes = "") {
  const std::string code = "class Net(Module):\n" + attributes + classes;
  const std::string data = "\x80\x02" + pickle + ".", constants = "\x80\x02).";
  ZipWriter zip;
  zip.add("net/code/__torch__/net.py", code.data(), code.size());
  zip.add("net/data.pkl", data.data(), data.size());
  zip.add("net/data/0", "1234", 4);
  zip.add("net/constants.pkl", constants.data(), constants.size());
  zip.add("net/version", "3\n", 2);
  return zip.finish();
}

/// The same object under many names.
Bytes many_of(int count, const std::string& part, const std::string& class_of_part) {
  std::string attributes, pickle;
  for (int i = 0; i < count; ++i) {
    attributes += "  q" + std::to_string(i) + " : __torch__.net.Part\n";
    pickle += text("q" + std::to_string(i)) + (i == 0 ? part + "q\x05" : "h\x05");
  }
  return archive(attributes, object("Net", pickle), class_of_part);
}

TEST(ScriptArchive, ATextOfManyPlacesIsWrittenOnce) {
  std::string texts = text(std::string(100000, 'a')) + "q\x05";
  for (int i = 0; i < 500; ++i) texts += "h\x05";
  const std::string list =
      "ctorch.jit._pickle\nrestore_type_tag\n](" + texts + "e" + text("List[str]") + "\x86R";
  const Bytes file = archive("  a : List[str]\n", object("Net", text("a") + list));
  const Bytes clean = checked_script(file, "net.ts");
  EXPECT_LT(clean.size(), 2 * file.size());
  EXPECT_EQ(checked_script(clean, "net.ts"), clean);
}

TEST(ScriptArchive, ClassesWithEndlessNamesAreRefused) {
  const std::string long_name = text("__torch__." + std::string(1000, 'a'));
  EXPECT_THAT(
      data_error([&] { read_script(archive("", long_name + text("A") + "\x93"), "net.ts"); }),
      HasSubstr("endless name"));
}

TEST(ScriptArchive, AttributesTimesObjectsAreBounded) {
  std::string part = "class Part(Module):\n";
  for (int i = 0; i < 40000; ++i) part += "  a" + std::to_string(i) + " : int\n";
  const Bytes file = many_of(2000, object("Part", ""), part);
  EXPECT_THAT(data_error([&] { read_script(file, "net.ts"); }), HasSubstr("without number"));
  EXPECT_THAT(data_error([&] { checked_script(file, "net.ts"); }), HasSubstr("without number"));
}

TEST(ScriptArchive, LongNamesOfTensorsAreRefused) {
  const auto read = [](std::size_t length) {
    const std::string name(length, 'b');
    const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
                               "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x01tQK" +
                               std::string(1, '\0') + "(K\x01t(K\x01t\x89" +
                               "ccollections\nOrderedDict\n)RtR";
    const std::string part =
        "class Part(Module):\n  __parameters__ = [\"" + name + "\", ]\n  " + name + " : Tensor\n";
    return read_script(many_of(3, object("Part", text(name) + tensor), part), "net.ts");
  };
  EXPECT_EQ(read(1000).tensors.size(), 3u);
  EXPECT_THAT(data_error([&] { read(2000); }), HasSubstr("name is too long"));
}

}  // namespace
}  // namespace sentinel
