#include "networks/everywhere.hpp"

#include "sentinel/core/error.hpp"
#include "sentinel/networks/normalisation.hpp"

namespace sentinel {

void require_same(const Comm& comm, const std::string& hash, const std::string& what) {
  const Bytes first = comm.from_root([&] {
    ByteWriter writer;
    writer.text(hash);
    return writer.take();
  });
  comm.agree([&] {
    if (ByteReader(first, what).text(first.size()) != hash)
      throw EnvironmentError("rank " + std::to_string(comm.rank()) + " has another " + what +
                             " than rank 0; check this node's memory and libraries");
  });
}

NamedModel parse_everywhere(const Comm& comm, const Bytes& file, const std::string& source,
                            const ModelSelection& selection) {
  NamedModel model;
  comm.agree([&] {
    model.graph = parse_model(
        file, source, {selection.model, selection.dataset, selection.weights_key}, &model.notes);
    if (!selection.normalisation.empty())
      choose_normalisation(model.graph, selection, recorded_normalisation(file, source));
    model.sha256 = network_sha256(model.graph);
  });
  require_same(comm, model.sha256, source);
  return model;
}

}  // namespace sentinel
