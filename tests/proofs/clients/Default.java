import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Java's client with its defaults, which offer h2c. Arguments: the server's URL, a body. */
public class Default {
    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        byte[] body = arguments[1].getBytes(StandardCharsets.UTF_8);
        HttpClient client = HttpClient.newHttpClient();
        URI infer = URI.create(url + "/v2/models/sim/infer");
        show("first", client.send(post(infer, BodyPublishers.ofByteArray(body)), BodyHandlers.ofString()));
        show("again", client.send(post(infer, BodyPublishers.ofByteArray(body)), BodyHandlers.ofString()));
        BodyPublisher stream = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
        show("chunked", client.send(post(infer, stream), BodyHandlers.ofString()));
        HttpRequest expecting = HttpRequest.newBuilder(infer).expectContinue(true)
            .POST(BodyPublishers.ofByteArray(body)).build();
        show("expect", client.send(expecting, BodyHandlers.ofString()));
        HttpRequest head = HttpRequest.newBuilder(URI.create(url + "/v2/health/ready"))
            .method("HEAD", BodyPublishers.noBody()).build();
        show("head", client.send(head, BodyHandlers.ofString()));
        List<CompletableFuture<HttpResponse<String>>> many = new ArrayList<>();
        for (int number = 0; number < 50; number++) {
            many.add(client.sendAsync(
                post(infer, BodyPublishers.ofByteArray(body)), BodyHandlers.ofString()));
        }
        for (CompletableFuture<HttpResponse<String>> one : many) {
            show("many", one.get());
        }
    }

    private static HttpRequest post(URI uri, BodyPublisher body) {
        return HttpRequest.newBuilder(uri).header("Content-Type", "application/json")
            .POST(body).build();
    }

    private static void show(String name, HttpResponse<String> answer) {
        System.out.println(name + "\t" + answer.statusCode() + "\t" + answer.body());
    }
}
