package command

import (
	"io"
	"slices"
	"strings"
	"unicode"
)

const (
	kept   = 4 << 10 // bytes of output
	quoted = 300     // bytes of it in an error
)

// keeper holds the last bytes of what a program printed.
type keeper struct{ tail []byte }

// drain reads until the end, an error or the deadline, and keeps the last bytes.
func (k *keeper) drain(r io.Reader) {
	buffer := make([]byte, 32<<10)
	k.tail = make([]byte, 0, 2*kept)
	for {
		n, err := r.Read(buffer)
		k.add(buffer[:n])
		if err != nil {
			return
		}
	}
}

func (k *keeper) add(data []byte) {
	if len(data) > kept {
		data = data[len(data)-kept:]
	}
	if over := len(k.tail) + len(data) - kept; over > 0 {
		k.tail = append(k.tail[:0], k.tail[over:]...)
	}
	k.tail = append(k.tail, data...)
}

// quote returns ": " and two telling lines, or "". Two, as many programs end with a line
// that only says that they failed: nginx's "configuration file ... test failed".
func (k *keeper) quote() string {
	text := string(k.tail)
	if strings.Contains(text, "PRIVATE KEY") {
		return ": (what it printed holds a private key, and is not shown)"
	}
	var lines []string
	secret := false
	for line := range strings.SplitSeq(text, "\n") {
		if line = printable(line); line == "" {
			continue
		}
		// The last line of a key is a short one.
		secret = keyLike(line) || secret && base64Only(line)
		if secret {
			line = "(a line that may be of a key)"
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + clip(strings.Join(telling(lines), "; "))
}

// troubleWords are in the line that says what is wrong: HAProxy prints it before two
// that only say that something is.
var troubleWords = []string{"[emerg]", "[alert]", "error", "fatal", "invalid", "unknown", "failed"}

// telling returns the first line that speaks of trouble, and the last one; without such a
// line the last two.
func telling(lines []string) []string {
	last := len(lines) - 1
	first := slices.IndexFunc(lines, func(line string) bool {
		line = strings.ToLower(line)
		return slices.ContainsFunc(troubleWords, func(word string) bool { return strings.Contains(line, word) })
	})
	if first < 0 || first >= last {
		return lines[max(0, last-1):]
	}
	return []string{lines[first], lines[last]}
}

// printable returns a line without what moves a terminal's cursor or hides text.
func printable(line string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, line))
}

// keyLike reports whether a line holds a run of base64 or hex as long as those of keys and secrets. A path is none.
func keyLike(line string) bool {
	const long = 40
	for run := range strings.FieldsFuncSeq(line, func(r rune) bool { return !inBase64(r) }) {
		path := strings.Contains(run, "/") && (strings.ToLower(run) == run || !strings.ContainsAny(run, "0123456789"))
		if len(run) >= long && !path {
			return true
		}
	}
	return false
}

func base64Only(line string) bool {
	return strings.IndexFunc(line, func(r rune) bool { return !inBase64(r) }) < 0
}

func inBase64(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/' || r == '='
}

// clip returns the end of a text, where the cause usually stands, cut between characters.
func clip(text string) string {
	if len(text) <= quoted {
		return text
	}
	return "..." + strings.ToValidUTF8(text[len(text)-quoted:], "")
}
