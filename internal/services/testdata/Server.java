import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.concurrent.Executors;
import javax.net.ssl.SSLParameters;

/**
 * An HTTPS service that wants a certificate of its clients and answers with the path that was asked for. Arguments: the
 * directory of the sets, the file with the password, address and port, and the port of the hook on the same address.
 */
public class Server {
    public static void main(String[] args) throws Exception {
        SpineContext context = SpineContext.of(Path.of(args[0]), Path.of(args[1]));
        HttpsServer server = HttpsServer.create(new InetSocketAddress(args[2], Integer.parseInt(args[3])), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(context) {
            @Override
            public void configure(HttpsParameters parameters) {
                SSLParameters tls = context.getDefaultSSLParameters();
                tls.setProtocols(new String[] {"TLSv1.2"});
                tls.setNeedClientAuth(true);
                parameters.setSSLParameters(tls);
            }
        });
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Server::serve);
        server.start();
        context.watch(200);
        hook(context, new InetSocketAddress(args[2], Integer.parseInt(args[4])));
    }

    private static void serve(HttpExchange exchange) throws IOException {
        if (exchange.getRequestURI().getPath().equals("/slow")) {
            try {
                Thread.sleep(50);
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
        }
        answer(exchange, 200, "backend here: " + exchange.getRequestURI().getPath());
    }

    private static void answer(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    /** Listens for the word that there is a new set. */
    private static void hook(SpineContext context, InetSocketAddress address) throws IOException {
        HttpServer hook = HttpServer.create(address, 0);
        hook.createContext("/reload", exchange -> {
            try {
                context.reload();
                answer(exchange, 200, "done\n");
            } catch (Exception e) {
                answer(exchange, 500, e.getMessage() + "\n");
            }
        });
        hook.start();
    }
}
