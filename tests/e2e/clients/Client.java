import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Client {
    public static void main(String[] words) throws Exception {
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpRequest request = HttpRequest.newBuilder(URI.create("https://api.example.com/java"))
                .version(version).header("authorization", "Bearer " + System.getenv("VENDOR_KEY"))
                .POST(HttpRequest.BodyPublishers.ofString("body")).build();
            HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            System.out.print(answer.version() + " " + answer.body());
        }
    }
}
