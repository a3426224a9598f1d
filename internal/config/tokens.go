package config

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/token"
)

// Bounds on what is handed to the YAML parser. It is recursive, takes quadratic time in the entries of one mapping, and
// stores the full path of every node: far more than any configuration needs, and little enough to be read in seconds.
const (
	maxTokens  = 250_000
	maxDepth   = 24
	maxEntries = 12_000
	maxKey     = 128
)

// inspect judges the tokens before they are parsed, and says whether there is any content.
//
// Anchors, aliases, merge keys, tags, directives and complex keys are refused as a whole: a configuration has no use for
// them, and they are how a small file becomes a large one.
func inspect(tokens token.Tokens) (content bool, problem *Problem) {
	if len(tokens) > maxTokens {
		return false, &Problem{Message: "the configuration has too many words", Hint: "is this the right file?"}
	}
	var depth nesting
	ended := false
	for _, t := range tokens {
		if message, hint := refusedToken(t); message != "" {
			return false, at(t, message, hint)
		}
		switch t.Type {
		case token.CommentType, token.SpaceType:
			continue
		case token.DocumentEndType:
			ended = true
			continue
		case token.DocumentHeaderType:
			if content || ended {
				return false, secondDocument(t)
			}
			continue
		}
		if ended {
			return false, secondDocument(t)
		}
		content = true
		if message := depth.add(t); message != "" {
			return false, at(t, message, "a configuration needs no such thing; is this the right file?")
		}
	}
	return content, nil
}

func refusedToken(t *token.Token) (message, hint string) {
	switch t.Type {
	case token.AnchorType, token.AliasType:
		return "anchors and aliases are not allowed", `write the value out; a value that begins with "&" or "*" needs quotes: ["*"]`
	case token.MergeKeyType:
		return "merge keys are not allowed", "write the values out"
	case token.TagType:
		return "tags are not allowed", `a value that begins with "!" needs quotes`
	case token.DirectiveType:
		return "directives are not allowed", `a value that begins with "%" needs quotes`
	case token.MappingKeyType:
		return "keys are plain words", `a value that begins with "?" needs quotes`
	}
	return "", ""
}

func at(t *token.Token, message, hint string) *Problem {
	return &Problem{Line: t.Position.Line, Column: t.Position.Column, Message: message, Hint: hint}
}

func secondDocument(t *token.Token) *Problem {
	return at(t, "a second YAML document begins here", `a configuration is one document: remove the "---" or "..." line, or what follows it`)
}

// nesting follows block and flow collections through the tokens.
type nesting struct {
	block []level // by rising column
	flow  []level
	line  int // of the last token
	pairs int // colons of block mappings on this line
}

type level struct{ column, entries int }

func (n *nesting) add(t *token.Token) (message string) {
	if t.Position.Line != n.line {
		n.line, n.pairs = t.Position.Line, 0
	}
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.flow = append(n.flow, level{})
	case token.MappingEndType, token.SequenceEndType:
		if len(n.flow) > 0 {
			n.flow = n.flow[:len(n.flow)-1]
		}
	case token.SequenceEntryType:
		if len(n.flow) == 0 {
			n.enter(t.Position.Column)
		}
	case token.MappingValueType:
		return n.pair(t)
	}
	return n.verdict()
}

// pair counts an entry of the innermost mapping; t is its colon.
func (n *nesting) pair(t *token.Token) string {
	key := t.Prev
	if key == nil {
		return n.verdict()
	}
	if len(key.Value) > maxKey {
		return "a key is too long"
	}
	if last := len(n.flow) - 1; last >= 0 {
		n.flow[last].entries++
		return n.verdict()
	}
	if n.pairs++; n.pairs > maxDepth {
		return "too many keys on one line"
	}
	n.enter(key.Position.Column)
	return n.verdict()
}

// enter opens the block collection at column, or counts one more entry of it; deeper ones are closed.
func (n *nesting) enter(column int) {
	for len(n.block) > 0 && n.block[len(n.block)-1].column > column {
		n.block = n.block[:len(n.block)-1]
	}
	if last := len(n.block) - 1; last >= 0 && n.block[last].column == column {
		n.block[last].entries++
		return
	}
	n.block = append(n.block, level{column: column, entries: 1})
}

func (n *nesting) verdict() string {
	if len(n.block)+len(n.flow) > maxDepth {
		return "values are nested too deeply"
	}
	for _, levels := range [][]level{n.block, n.flow} {
		if last := len(levels) - 1; last >= 0 && levels[last].entries > maxEntries {
			return "a mapping has too many entries"
		}
	}
	return ""
}

// syntaxProblem takes the words and the place out of an error of the library, and leaves the source lines that its
// Error method quotes. Words in double quotes are text of the file as well.
func syntaxProblem(err error) *Problem {
	p := &Problem{Message: "this is not YAML that can be read", Hint: "look for wrong indentation, missing quotes and unbalanced brackets at or before this place"}
	located, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return p
	}
	words, _, _ := strings.Cut(located.GetMessage(), `"`)
	if strings.ContainsRune(words, '\t') {
		words, p.Hint = "found a tab", "indent with spaces"
	}
	p.Message = "syntax error: " + strings.TrimRight(words, ": ")
	if t := located.GetToken(); t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	return p
}
