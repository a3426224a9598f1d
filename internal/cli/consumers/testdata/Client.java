import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/**
 * Asks a server by TLS, once for each name that it is to have, with the stores of javax.net.ssl.*, and prints what it
 * answers, or why it does not. Arguments: address, port, name...
 */
public class Client {
    public static void main(String[] args) {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        for (int i = 2; i < args.length; i++) {
            System.out.println("== " + args[i]);
            try {
                System.out.println(ask(factory, args[0], Integer.parseInt(args[1]), args[i]));
            } catch (IOException e) {
                System.out.println("refused: " + e);
            }
        }
    }

    private static String ask(SSLSocketFactory factory, String address, int port, String name) throws IOException {
        try (Socket plain = new Socket(address, port);
                SSLSocket socket = (SSLSocket) factory.createSocket(plain, name, port, true)) {
            socket.setSoTimeout(20_000);
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
            InputStream in = socket.getInputStream();
            return new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
        }
    }
}
