// Asks a server 80 times, 10 at a time, a quarter of them with bodies, and 20 times by
// the older client; says done, and ends with its standard input.
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.concurrent.CompletableFuture;

public class Client {
  public static void main(String[] args) throws Exception {
    String at = "http://" + args[0];
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    ArrayList<CompletableFuture<?>> asked = new ArrayList<>();
    for (int i = 0; i < 80; i++) {
      HttpRequest.Builder request = i % 4 == 0
          ? HttpRequest.newBuilder(URI.create(at + "/echo")).POST(BodyPublishers.ofByteArray(new byte[60000]))
          : HttpRequest.newBuilder(URI.create(at + "/status/" + (i % 4 == 1 ? 200 : 404)));
      asked.add(client.sendAsync(request.build(), BodyHandlers.ofByteArray()));
      if (i % 10 == 9) {
        for (CompletableFuture<?> one : asked) {
          one.join();
        }
        asked.clear();
      }
    }
    for (int i = 0; i < 20; i++) {
      HttpURLConnection connection = (HttpURLConnection) new URL(at + "/status/200").openConnection();
      connection.getInputStream().readAllBytes();
    }
    System.out.println("done");
    System.in.readAllBytes();
    System.exit(0);
  }
}
