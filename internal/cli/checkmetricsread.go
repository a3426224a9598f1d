package cli

import (
	"regexp"
	"strconv"
	"strings"
)

// quotedLabel is a value as [labels] writes it.
const quotedLabel = `"(?:[^"\\]|\\["\\])*"`

// What is taken back from a file of an earlier run. Anything else in it is not ours.
var (
	itemSeries      = regexp.MustCompile(`^\{kind="([a-z]+)",name=` + quotedLabel + `\}$`)
	conditionSeries = regexp.MustCompile(`^\{condition=` + quotedLabel + `,severity="(?:warning|critical)",subject=` + quotedLabel + `\}$`)
)

// parseMetrics reads what [checkMetrics.show] wrote: the series of items and of conditions.
// What is not of that form is left out; a file of something else is an empty one.
func parseMetrics(text string) *checkMetrics {
	m := &checkMetrics{series: map[string]map[string]int64{metricCondition: {}, metricNotAfter: {}, metricStatus: {}}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		brace, space := strings.IndexByte(line, '{'), strings.LastIndexByte(line, ' ')
		if brace < 0 || space < brace {
			continue
		}
		name, at := line[:brace], line[brace:space]
		form := itemSeries
		if name == metricCondition {
			form = conditionSeries
		}
		value, err := strconv.ParseInt(line[space+1:], 10, 64)
		if known := m.series[name]; known != nil && err == nil && form.MatchString(at) {
			known[at] = value
		}
	}
	return m
}

// kindOf is the label kind; "" if there is none.
func kindOf(at string) string {
	if found := itemSeries.FindStringSubmatch(at); found != nil {
		return found[1]
	}
	return ""
}
