package config

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestUserID(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{me.Username, me.Uid} {
		if id, err := UserID(name); err != nil || strconv.Itoa(int(id)) != me.Uid {
			t.Errorf("UserID(%q) = %d, %v", name, id, err)
		}
	}
	for _, name := range []string{"no-such-user-here", "4294967295", "-1", ""} {
		if id, err := UserID(name); err == nil {
			t.Errorf("UserID(%q) = %d", name, id)
		}
	}
}

// Load warns of users that this host does not have; Parse asks nobody.
func TestUnknownUsers(t *testing.T) {
	data := []byte(`environments: {live: {trust: [live.pem]}}
slots: {pcs: {files: {certificate: a, key: b}}}
tunnels:
  out:
    direction: outbound
    listen: ["127.0.0.1:6360"]
    allow_users: [root, no-such-user-here, "70000"]
    forward: ldap.nhs.uk:636
    slot: pcs
`)
	path := filepath.Join(t.TempDir(), "spinecert.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	warnings := c.Warnings()
	if len(warnings) != 1 || warnings[0].Key != "tunnels.out.allow_users[1]" || warnings[0].Line != 7 || !strings.Contains(warnings[0].Message, "no-such-user-here") {
		t.Errorf("warnings %+v", warnings)
	}
	if c, err = Parse(data, path); err != nil || len(c.Warnings()) != 0 {
		t.Errorf("Parse: %v, %v", c.Warnings(), err)
	}
}
