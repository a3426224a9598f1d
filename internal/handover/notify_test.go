package handover

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBarrier: it returns once what was sent before it was read, and not before.
func TestBarrier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := MainPID(42); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Barrier() }()
	buffer, oob := make([]byte, 100), make([]byte, 100)
	for _, want := range []string{"MAINPID=42", "BARRIER=1"} {
		n, m, _, _, err := conn.ReadMsgUnix(buffer, oob)
		if err != nil || string(buffer[:n]) != want {
			t.Fatalf("%q, %v; want %q", buffer[:n], err, want)
		}
		select {
		case err := <-done:
			t.Fatalf("the barrier is open after %q: %v", want, err)
		default:
		}
		if m == 0 {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(oob[:m])
		if err != nil || len(messages) != 1 {
			t.Fatalf("control messages %v, %v", messages, err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("descriptors %v, %v", fds, err)
		}
		if err := unix.Close(fds[0]); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
