package sink

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// receiver is Debian's aiosmtpd, which asks for STARTTLS and a password, and writes each mail to a file.
const receiver = `
import asyncio, os, signal, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
class Keep:
    n = 0
    async def handle_DATA(self, server, session, envelope):
        Keep.n += 1
        text = "\n".join(["from " + envelope.mail_from] + ["to " + r for r in envelope.rcpt_tos]) + "\n\n"
        with open("mail.%d.tmp" % Keep.n, "wb") as f:
            f.write(text.encode() + envelope.content)
        os.rename("mail.%d.tmp" % Keep.n, "mail.%d" % Keep.n)
        return "250 OK"
def sign_in(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"user" and data.password == b"correct horse", handled=False)
async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("relay.pem", "relay.keyfile")
    loop = asyncio.get_running_loop()
    make = lambda: SMTP(Keep(), hostname="relay.example", tls_context=context, require_starttls=True, auth_required=True, authenticator=sign_in)
    server = await loop.create_server(make, "127.0.0.1", 0)
    with open("port.tmp", "w") as f:
        f.write(str(server.sockets[0].getsockname()[1]))
    os.rename("port.tmp", "port")
    async with server:
        await server.serve_forever()
asyncio.run(main())
`

// A mail as a program of others takes it: STARTTLS, a password, two recipients.
func TestMailToAiosmtpd(t *testing.T) {
	python := testprogram.Need(t, "/usr/bin/python3")
	if err := exec.Command(python, "-c", "import aiosmtpd.smtp").Run(); err != nil {
		testprogram.Missing(t, "python3-aiosmtpd")
	}
	root, roots := authority(t)
	leaf := root.Issue(t, testpki.DNS("relay.example"), testpki.IP(net.IPv4(127, 0, 0, 1)))
	dir := t.TempDir()
	for name, data := range map[string][]byte{"relay.pem": leaf.FullChainPEM(), "relay.keyfile": leaf.KeyPEM(), "receiver.py": []byte(receiver)} {
		testpki.WriteFile(t, filepath.Join(dir, name), data, 0o600)
	}
	testprogram.Start(t, nil, dir, python, "receiver.py")
	var port string
	until(t, "the receiver listens", func() bool {
		data, err := os.ReadFile(filepath.Join(dir, "port"))
		port = string(data)
		return err == nil
	})
	if _, err := strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	c := mailTo("127.0.0.1:"+port, "Ops <ops@example.nhs.uk>", "second@example.nhs.uk")
	c.TLS, c.CA, c.Username, c.PasswordFile = config.TLSStartTLS, roots, "user", write(t, "password", "wrong\n")
	says(t, send(t, make1(t, c), one()), "sign in", "535")
	c.PasswordFile = write(t, "password", "correct horse\n")
	if err := send(t, make1(t, c), one()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "mail.1"))
	if err != nil {
		t.Fatal(err)
	}
	envelope, body, _ := strings.Cut(string(data), "\n\n")
	if envelope != strings.Join([]string{"from spinecert@example.nhs.uk", "to ops@example.nhs.uk", "to second@example.nhs.uk"}, "\n") {
		t.Error(envelope)
	}
	_, subject, text := read(t, body)
	golden(t, "one.txt", "Subject: "+subject+"\n\n"+text)
}
