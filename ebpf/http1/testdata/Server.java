// Answers /status/<code> and /echo over keep-alive, and says its port. It ends with its
// standard input.
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Server {
  public static void main(String[] args) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 256);
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.createContext("/", exchange -> {
      byte[] body = exchange.getRequestBody().readAllBytes();
      String path = exchange.getRequestURI().getPath();
      boolean post = exchange.getRequestMethod().equals("POST");
      int status = post ? 200 : Integer.parseInt(path.substring(path.lastIndexOf('/') + 1));
      byte[] answer = (post ? String.valueOf(body.length) : "from Java").getBytes();
      boolean without = exchange.getRequestMethod().equals("HEAD") || status == 204;
      exchange.sendResponseHeaders(status, without ? -1 : answer.length);
      if (!without) {
        exchange.getResponseBody().write(answer);
      }
      exchange.close();
    });
    server.start();
    System.out.println(server.getAddress().getPort());
    System.in.readAllBytes();
    System.exit(0);
  }
}
