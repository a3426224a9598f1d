package tunnel

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestUsers lets nobody in over TCP whose process is not one of theirs. That other
// processes are told apart is a test of package peercred.
func TestUsers(t *testing.T) {
	me := uint32(os.Getuid())
	for name, test := range map[string]struct {
		users map[uint32]bool
		unix  bool
		in    bool
	}{
		"everyone":           {nil, false, true},
		"this user":          {map[uint32]bool{me: true}, false, true},
		"another user":       {map[uint32]bool{me + 1: true}, false, false},
		"nobody":             {map[uint32]bool{}, false, false},
		"nobody, of a mode":  {map[uint32]bool{}, true, true},
		"a word that is off": {map[uint32]bool{me: false}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := newSpine(t)
			b := newBackend(t, "tcp", in.serverConfig(tls.VersionTLS12), echo)
			s := startIn(t, in, Outbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
				c.Users = test.users
				if test.unix {
					c.Listen = []Listen{{Network: "unix", Address: filepath.Join(t.TempDir(), "in.sock")}}
				}
			})
			c := s.plain(t)
			if test.in {
				exchange(t, c, "hello")
				return
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("still open")
			}
			h := s.seen.awaitHandshake(t, 1)
			if h.Result != Limited || h.Reason != LimitAllowUsers || h.Err == nil || !strings.Contains(h.Err.Error(), "uid "+strconv.Itoa(int(me))) {
				t.Errorf("%+v", h)
			}
			if n := s.endpoint.accepted.Load(); n != 0 {
				t.Errorf("%d handshakes with the peer", n)
			}
		})
	}
}

// TestUserThatLeft is refused, although root may connect: a socket without an owner
// looks like root's.
func TestUserThatLeft(t *testing.T) {
	in := newSpine(t)
	b := newBackend(t, "tcp", in.serverConfig(tls.VersionTLS12), echo)
	set, err := Config{
		Direction: Outbound, Endpoint: &fakeEndpoint{}, Users: map[uint32]bool{0: true, uint32(os.Getuid()): true},
		Listen: []Listen{{Network: "tcp", Address: "127.0.0.1:0"}}, Forward: Forward{Network: "tcp", Address: b.Addr().String()},
	}.check("under-test")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := set.permits(s.(stream)); err != nil {
		t.Errorf("open: %v", err)
	}
	_ = c.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Fatal("not at its end")
	}
	if set.permits(s.(stream)) == nil {
		t.Error("permitted")
	}
}

func TestUsersAreForOutbound(t *testing.T) {
	_, err := Config{Direction: Inbound, Endpoint: &fakeEndpoint{}, Users: map[uint32]bool{},
		Listen: []Listen{{Network: "tcp", Address: "127.0.0.1:0"}}, Forward: Forward{Network: "tcp", Address: "127.0.0.1:1"}}.check("in")
	if err == nil || !strings.Contains(err.Error(), "outbound") {
		t.Errorf("check: %v", err)
	}
}
