import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import java.util.zip.*;

public class Words {
    public static void main(String[] arguments) throws Exception {
        Map<String, Integer> counts = new TreeMap<>();
        Random random = new Random(5);
        for (int i = 0; i < 300_000; i++) counts.merge("w" + random.nextInt(20_000), 1, Integer::sum);
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> parts = new ArrayList<>();
        for (int part = 0; part < 8; part++) {
            int remainder = part;
            parts.add(pool.submit(() -> {
                CRC32 sum = new CRC32();
                Deflater deflater = new Deflater();
                byte[] packed = new byte[1 << 16];
                for (var entry : counts.entrySet())
                    if (entry.getValue() % 8 == remainder) {
                        deflater.setInput((entry.getKey() + entry.getValue()).getBytes());
                        deflater.finish();
                        sum.update(packed, 0, deflater.deflate(packed));
                        deflater.reset();
                    }
                deflater.end();
                return sum.getValue();
            }));
        }
        for (var part : parts) System.out.println(part.get());
        pool.shutdown();
        System.out.println(counts.size());
    }
}
