import com.google.gson.Gson;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Makes the calls that it reads from standard input, one JSON object a line, and prints what became of each.
 *
 * <p>Usage: java Call ADDRESS NAME ROOTS CHAIN KEY KEEPALIVE_SECONDS. It knows no messages: requests and answers are
 * bytes. tests/support/foreign_clients.py says what the objects hold.
 */
public final class Call {
  /** What is read. */
  static final class Wanted {
    String method;
    List<String> messages;
    double timeout;
    double cancel;
    Map<String, String> metadata = Map.of();
    boolean gzip;
    int take;
    double rest;
    int lanes;
    double seconds;
    int flood;
  }

  /** What is printed. */
  static final class Outcome {
    int code;
    String message = "";
    List<String> answers = new ArrayList<>();
    String text;
    String binary;
    String status;
    Map<String, Integer> tally;
  }

  /** Passes bytes through. */
  private static final class Raw implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException error) {
        throw Status.INTERNAL.withCause(error).asRuntimeException();
      }
    }
  }

  private static final Metadata.Key<String> TEXT = Metadata.Key.of("x-a", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<byte[]> BINARY =
      Metadata.Key.of("x-detail-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final Metadata.Key<byte[]> STATUS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private final ManagedChannel channel;

  private Call(ManagedChannel channel) {
    this.channel = channel;
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = dialled(arguments);
    Call calls = new Call(channel);
    Gson gson = new Gson();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      System.out.println(gson.toJson(calls.done(gson.fromJson(line, Wanted.class))));
    }
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  private static ManagedChannel dialled(String[] arguments) throws IOException {
    ChannelCredentials credentials =
        TlsChannelCredentials.newBuilder()
            .trustManager(new File(arguments[2]))
            .keyManager(new File(arguments[3]), new File(arguments[4]))
            .build();
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(arguments[0], credentials)
            .overrideAuthority(arguments[1])
            .maxInboundMessageSize(64 << 20);
    if (!arguments[5].equals("0")) {
      builder.keepAliveTime(Long.parseLong(arguments[5]), TimeUnit.SECONDS).keepAliveTimeout(1, TimeUnit.SECONDS);
    }
    return builder.build();
  }

  private Outcome done(Wanted wanted) throws Exception {
    if (wanted.flood > 0) {
      return flooded(wanted);
    }
    return wanted.lanes > 0 ? loaded(wanted) : outcome(wanted);
  }

  /** Begins calls and cancels each at once. */
  private Outcome flooded(Wanted wanted) {
    for (int count = 0; count < wanted.flood; count++) {
      begun(wanted, new ClientCall.Listener<byte[]>() {}).cancel("flood", null);
    }
    return new Outcome();
  }

  /** Calls without a pause in several lanes, and counts what the calls end with. */
  private Outcome loaded(Wanted wanted) throws Exception {
    Outcome found = new Outcome();
    found.tally = new TreeMap<>();
    long until = System.nanoTime() + nanos(wanted.seconds);
    List<Thread> lanes = new ArrayList<>();
    for (int lane = 0; lane < wanted.lanes; lane++) {
      lanes.add(new Thread(() -> countCalls(wanted, until, found.tally)));
    }
    lanes.forEach(Thread::start);
    for (Thread lane : lanes) {
      lane.join();
    }
    return found;
  }

  private void countCalls(Wanted wanted, long until, Map<String, Integer> tally) {
    while (System.nanoTime() < until) {
      Outcome each = outcome(wanted);
      synchronized (tally) {
        tally.merge(each.code + " " + each.message, 1, Integer::sum);
      }
    }
  }

  private Outcome outcome(Wanted wanted) {
    Listening listener = new Listening(wanted.take);
    ClientCall<byte[], byte[]> call = begun(wanted, listener);
    if (wanted.cancel > 0) {
      CompletableFuture.delayedExecutor(nanos(wanted.cancel), TimeUnit.NANOSECONDS)
          .execute(() -> call.cancel("wanted", null));
    }
    if (wanted.take > 0) {
      listener.taken.join();
      sleep(wanted.rest);
      call.cancel("enough", null);
      listener.ended.join();
      listener.found.code = 0;
      listener.found.message = "";
    }
    return listener.ended.join();
  }

  private ClientCall<byte[], byte[]> begun(Wanted wanted, ClientCall.Listener<byte[]> listener) {
    MethodDescriptor<byte[], byte[]> method =
        MethodDescriptor.newBuilder(new Raw(), new Raw())
            .setType(MethodDescriptor.MethodType.BIDI_STREAMING)
            .setFullMethodName(wanted.method.substring(1))
            .build();
    CallOptions options = CallOptions.DEFAULT;
    if (wanted.timeout > 0) {
      options = options.withDeadlineAfter(nanos(wanted.timeout), TimeUnit.NANOSECONDS);
    }
    if (wanted.gzip) {
      options = options.withCompression("gzip");
    }
    Metadata metadata = new Metadata();
    wanted.metadata.forEach(
        (name, value) -> metadata.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value));
    ClientCall<byte[], byte[]> call = channel.newCall(method, options);
    if (listener instanceof Listening listening) {
      listening.call = call;
    }
    call.start(listener, metadata);
    call.setMessageCompression(wanted.gzip);
    call.request(1);
    for (String message : wanted.messages) {
      call.sendMessage(Base64.getDecoder().decode(message));
    }
    call.halfClose();
    return call;
  }

  /** Reads one answer after the other, as many as are wanted, and waits for the end. */
  private static final class Listening extends ClientCall.Listener<byte[]> {
    final CompletableFuture<Outcome> ended = new CompletableFuture<>();
    final CompletableFuture<Void> taken = new CompletableFuture<>();
    final Outcome found = new Outcome();
    private final int take;
    private ClientCall<byte[], byte[]> call;

    Listening(int take) {
      this.take = take;
    }

    @Override
    public void onMessage(byte[] answer) {
      found.answers.add(base64(answer));
      if (found.answers.size() == take) {
        taken.complete(null);
      } else {
        call.request(1);
      }
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      found.code = status.getCode().value();
      found.message = status.getDescription() == null ? "" : status.getDescription();
      found.text = trailers.get(TEXT);
      found.binary = base64(trailers.get(BINARY));
      found.status = base64(trailers.get(STATUS));
      taken.complete(null);
      ended.complete(found);
    }
  }

  private static String base64(byte[] bytes) {
    return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
  }

  private static long nanos(double seconds) {
    return (long) (seconds * 1e9);
  }

  private static void sleep(double seconds) {
    try {
      TimeUnit.NANOSECONDS.sleep(nanos(seconds));
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }
}
