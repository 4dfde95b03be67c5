// SPDX-License-Identifier: Apache-2.0
// Reads records as Apache Avro reads those that were written with another version of their schema.
// java -cp JARS Versions.java WRITER.avsc READER.avsc RECORD [WRITER.avsc …]: prints each record as JSON, a line each.
import java.io.IOException;
import java.nio.file.*;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.avro.io.DecoderFactory;

public class Versions {
  static Schema schema(String path) throws IOException {
    return new Schema.Parser().parse(Path.of(path).toFile());
  }

  public static void main(String[] paths) throws IOException {
    for (int i = 0; i < paths.length; i += 3) {
      var reader = new GenericDatumReader<GenericRecord>(schema(paths[i]), schema(paths[i + 1]));
      var decoder = DecoderFactory.get().binaryDecoder(Files.readAllBytes(Path.of(paths[i + 2])), null);
      var read = reader.read(null, decoder);
      if (!decoder.isEnd()) throw new IOException("octets are left over");
      System.out.println(read);
    }
  }
}
