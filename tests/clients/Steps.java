import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Makes the calls of a plan with Java's own client, as steps.mjs does with a client for Node.
 *
 * <pre>java Steps.java STACK BASE PLAN FOLDER</pre>
 *
 * By default the client asks for HTTP/2 by an upgrade on each new connection.
 */
class Steps {
    static final Duration LIMIT = Duration.ofSeconds(20);

    public static void main(String[] arguments) throws Exception {
        String base = arguments[1];
        HttpClient.Builder builder = HttpClient.newBuilder().proxy(HttpClient.Builder.NO_PROXY);
        if (arguments[0].equals("java-1.1")) {
            builder.version(HttpClient.Version.HTTP_1_1);
        }
        HttpClient client = builder.build();
        String token = null;
        List<String> lines = Files.readAllLines(Path.of(arguments[2]));
        for (int number = 0; number < lines.size(); number++) {
            String[] call = lines.get(number).split("\t", -1);
            String framing = call[2];
            byte[] body = call[4].getBytes("UTF-8");
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + call[1])).timeout(LIMIT);
            request.header("Accept", "application/json");
            if (token != null) {
                request.header("Authorization", "Bearer " + token);
            }
            if (!call[3].equals("-")) {
                request.header("Sezzle-Request-Id", call[3]);
            }
            if (!framing.equals("none")) {
                request.header("Content-Type", "application/json");
            }
            request.expectContinue(framing.equals("expect"));
            request.method(call[0], switch (framing) {
                case "none" -> BodyPublishers.noBody();
                case "chunked" -> BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
                default -> BodyPublishers.ofByteArray(body);
            });
            try {
                HttpResponse<byte[]> got = client.send(request.build(), BodyHandlers.ofByteArray());
                if (token == null) {
                    Matcher found = Pattern.compile("\"token\": ?\"([^\"]+)\"").matcher(new String(got.body(), "UTF-8"));
                    token = found.find() ? found.group(1) : null;
                }
                Files.write(Path.of(arguments[3], String.valueOf(number)), got.body());
                System.out.println(got.statusCode() + "\t" + got.headers().firstValue("cache-status").orElse(""));
            } catch (java.io.IOException error) {
                System.out.println(error.getClass().getSimpleName() + "\t");
                error.printStackTrace();
            }
        }
    }
}
