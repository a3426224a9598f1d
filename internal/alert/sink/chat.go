package sink

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/spinecert/spinecert/internal/alert"
)

// Limits of the far sides, with some room.
const (
	teamsLimit   = 24 << 10 // bytes of a message; Teams takes 28 KiB
	slackParts   = 40       // blocks of a message; Slack takes 50
	slackHeading = 150      // characters
	slackSection = 2900     // characters; Slack takes 3000
)

type object = map[string]any

// teamsBody is a message with an Adaptive Card, for a workflow of Teams. Its texts are text runs: the other elements read Markdown, and so names from
// certificates could make links.
func teamsBody(m *alert.Message, version string) ([]byte, error) {
	all := parts(m)
	body, err := json.Marshal(teamsMessage(m, all, version))
	if err != nil || len(body) <= teamsLimit {
		return body, err
	}
	fits := sort.Search(len(all), func(n int) bool { // how many parts there is room for: one more is too much
		data, err := json.Marshal(teamsMessage(m, all[:n+1], version))
		return err != nil || len(data) > teamsLimit
	})
	return json.Marshal(teamsMessage(m, all[:fits], version))
}

func teamsMessage(m *alert.Message, shown []part, version string) object {
	body := []object{paragraph(run(subject(m), "weight", "Bolder", "size", "Medium"))}
	for _, line := range []string{overview(m), missing(m, len(shown))} {
		if line != "" {
			body = append(body, paragraph(run(line)))
		}
	}
	for _, p := range shown {
		items := []object{paragraph(run(p.head, "weight", "Bolder"))}
		for _, r := range p.rows {
			value := run(r.value)
			if r.code {
				value["fontType"] = "Monospace"
			}
			items = append(items, paragraph(run(r.label+": ", "isSubtle", true), value))
		}
		style := map[string]string{"critical": "attention", "warning": "warning", "resolved": "good"}[p.tone]
		if style == "" {
			style = "default"
		}
		body = append(body, object{"type": "Container", "style": style, "bleed": true, "spacing": "Medium", "items": items})
	}
	body = append(body, paragraph(run(footer(m, version), "isSubtle", true, "size", "Small")))
	card := object{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
		"fallbackText": subject(m), "msteams": object{"width": "Full"}, "body": body}
	return object{"type": "message", "attachments": []object{{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card}}}
}

func paragraph(runs ...object) object {
	return object{"type": "RichTextBlock", "spacing": "Small", "inlines": runs}
}

func run(text string, attributes ...any) object {
	o := object{"type": "TextRun", "text": text}
	for i := 0; i+1 < len(attributes); i += 2 {
		o[attributes[i].(string)] = attributes[i+1]
	}
	return o
}

// slackBody is a message of blocks. They are plain text: no name can make a link, a mention or a format.
func slackBody(m *alert.Message, version string) ([]byte, error) {
	all := parts(m)
	shown := all[:min(len(all), slackParts)]
	plain := func(text string, limit int) object {
		return object{"type": "plain_text", "emoji": false, "text": clip(text, limit)}
	}
	blocks := []object{{"type": "header", "text": plain(subject(m), slackHeading)}}
	for _, line := range []string{overview(m), missing(m, len(shown))} {
		if line != "" {
			blocks = append(blocks, object{"type": "section", "text": plain(line, slackSection)})
		}
	}
	for _, p := range shown {
		var b strings.Builder
		b.WriteString(p.head)
		for _, r := range p.rows {
			b.WriteString("\n" + r.label + ": " + r.value)
		}
		blocks = append(blocks, object{"type": "section", "text": plain(b.String(), slackSection)})
	}
	blocks = append(blocks, object{"type": "context", "elements": []object{plain(footer(m, version), slackSection)}})
	// What stands on a lock screen is read as mrkdwn, in which these three characters make links and mentions.
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(subject(m))
	return json.Marshal(object{"text": escaped, "blocks": blocks})
}

// missing says what a far side has no room for, "" for nothing.
func missing(m *alert.Message, shown int) string {
	if over := len(m.Notices) - shown; over > 0 {
		return fmt.Sprintf("There is no room for %d of them here: spinecert alerts list", over)
	}
	return ""
}
