import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Makes the calls of a plan with Java clients that repeat calls by themselves, as steps.mjs does with a client for Node.
 * Each client has its default settings.
 *
 * <pre>java -cp JARS Repeaters.java STACK BASE PLAN FOLDER</pre>
 */
class Repeaters {
    record Answer(int status, String cache, byte[] body) {}

    interface Client {
        Answer call(String method, String url, String token, String key, byte[] body) throws IOException;
    }

    public static void main(String[] arguments) throws Exception {
        Client client = switch (arguments[0]) {
            case "okhttp" -> okhttp();
            case "apache4" -> apache4();
            case "apache5" -> apache5();
            default -> throw new IllegalArgumentException(arguments[0]);
        };
        String token = null;
        List<String> lines = Files.readAllLines(Path.of(arguments[2]));
        for (int number = 0; number < lines.size(); number++) {
            String[] call = lines.get(number).split("\t", -1);
            byte[] body = call[2].equals("none") ? null : call[4].getBytes("UTF-8");
            String key = call[3].equals("-") ? null : call[3];
            try {
                Answer got = client.call(call[0], arguments[1] + call[1], token, key, body);
                if (token == null) {
                    Matcher found = Pattern.compile("\"token\": ?\"([^\"]+)\"").matcher(new String(got.body, "UTF-8"));
                    token = found.find() ? found.group(1) : null;
                }
                Files.write(Path.of(arguments[3], String.valueOf(number)), got.body);
                System.out.println(got.status + "\t" + got.cache);
            } catch (IOException error) {
                System.out.println(error.getClass().getSimpleName() + "\t");
                error.printStackTrace();
            }
        }
        System.exit(0);
    }

    static Client okhttp() {
        okhttp3.OkHttpClient client = new okhttp3.OkHttpClient.Builder().proxy(java.net.Proxy.NO_PROXY)
            .readTimeout(20, TimeUnit.SECONDS).build();
        return (method, url, token, key, body) -> {
            okhttp3.Request.Builder request = new okhttp3.Request.Builder().url(url);
            if (token != null) {
                request.header("Authorization", "Bearer " + token);
            }
            if (key != null) {
                request.header("Sezzle-Request-Id", key);
            }
            okhttp3.MediaType json = okhttp3.MediaType.parse("application/json");
            request.method(method, body == null ? null : okhttp3.RequestBody.create(json, body));
            try (okhttp3.Response got = client.newCall(request.build()).execute()) {
                return new Answer(got.code(), got.header("cache-status", ""), got.body().bytes());
            }
        };
    }

    static Client apache4() {
        org.apache.http.client.HttpClient client = org.apache.http.impl.client.HttpClients.createDefault();
        return (method, url, token, key, body) -> {
            var request = org.apache.http.client.methods.RequestBuilder.create(method).setUri(url);
            if (token != null) {
                request.setHeader("Authorization", "Bearer " + token);
            }
            if (key != null) {
                request.setHeader("Sezzle-Request-Id", key);
            }
            if (body != null) {
                var json = org.apache.http.entity.ContentType.APPLICATION_JSON;
                request.setEntity(new org.apache.http.entity.ByteArrayEntity(body, json));
            }
            return client.execute(request.build(), got -> {
                var entity = got.getEntity();
                byte[] content = entity == null ? new byte[0] : org.apache.http.util.EntityUtils.toByteArray(entity);
                var cache = got.getFirstHeader("cache-status");
                return new Answer(got.getStatusLine().getStatusCode(), cache == null ? "" : cache.getValue(), content);
            });
        };
    }

    static Client apache5() {
        var client = org.apache.hc.client5.http.impl.classic.HttpClients.createDefault();
        return (method, url, token, key, body) -> {
            var request = org.apache.hc.core5.http.io.support.ClassicRequestBuilder.create(method).setUri(url);
            if (token != null) {
                request.setHeader("Authorization", "Bearer " + token);
            }
            if (key != null) {
                request.setHeader("Sezzle-Request-Id", key);
            }
            if (body != null) {
                request.setEntity(body, org.apache.hc.core5.http.ContentType.APPLICATION_JSON);
            }
            return client.execute(request.build(), got -> {
                var entity = got.getEntity();
                byte[] content =
                    entity == null ? new byte[0] : org.apache.hc.core5.http.io.entity.EntityUtils.toByteArray(entity);
                var cache = got.getFirstHeader("cache-status");
                return new Answer(got.getCode(), cache == null ? "" : cache.getValue(), content);
            });
        };
    }
}
