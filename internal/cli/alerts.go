package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
)

// usualAck is how long an acknowledgement lasts that names no time.
const usualAck = "7d"

// testWait is how long a sink may take to accept a test.
const testWait = time.Minute

// newAlertsCmd builds the commands on alerts.
func newAlertsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "See whom the daemon tells what, try a sink, say that somebody sees to an alert",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	cmd.AddCommand(newAlertsListCmd(a), newAlertsTestCmd(a), newAlertsAckCmd(a))
	return cmd
}

func newAlertsListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [ID]",
		Short: "Show what people are told of, who sees to it, and how the sinks stand",
		Long: "Asks the daemon for its alerts, the gravest first: what is wrong, since when, when it stops something, when it was told last and\n" +
			"when it will be told again; and for its sinks: what waits for them, and why. With ID everything that is known of one alert.\n" +
			"Exit status 1: there is no daemon that answers. 2: there is no such alert.",
		Example: "  spinecert alerts list\n  spinecert alerts list expiring/slot/pcs\n  spinecert alerts list --output json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactArgs("ID, or nothing")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			result, err := runAlertsList(ctx, a.global.findDaemon(), strings.Join(args, ""), time.Now())
			return outcome(a, cmd, result, err)
		},
	}
}

// alertsResult is the result of alerts list.
type alertsResult struct {
	admin.AlertList
	now time.Time
	one bool // it was asked for by ID
}

// maxDetailed bounds how many alerts are described below the table.
const maxDetailed = 20

// runAlertsList asks the daemon; id is "" for all.
func runAlertsList(ctx context.Context, d daemonAddress, id string, now time.Time) (*alertsResult, error) {
	l, err := d.client().Alerts(ctx)
	if err != nil {
		return nil, d.explain(err)
	}
	r := &alertsResult{AlertList: l, now: now, one: id != ""}
	if !r.one {
		return r, nil
	}
	i := slices.IndexFunc(l.Alerts, func(al admin.Alert) bool { return al.ID == id })
	if i < 0 {
		return nil, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no alert %q", id), Hint: "spinecert alerts list names them"}
	}
	r.Alerts = l.Alerts[i : i+1]
	return r, nil
}

// show writes a table of alerts, the gravest of them in detail, and a table of sinks.
func (r *alertsResult) show(p *page) {
	if r.one {
		showAlert(p, &r.Alerts[0], r.now)
		return
	}
	if len(r.Alerts) == 0 {
		p.line("nothing is wrong")
	}
	var rows [][]string
	for i := range r.Alerts {
		al := &r.Alerts[i]
		rows = append(rows, []string{string(al.Severity), al.State, left(al.Ends.Time, r.now), al.ID})
	}
	if len(rows) > 0 {
		p.table([]string{"SEVERITY", "STATE", "LEFT", "ID"}, rows)
	}
	for i := range r.Alerts[:min(len(r.Alerts), maxDetailed)] {
		p.blank()
		showAlert(p, &r.Alerts[i], r.now)
	}
	if more := len(r.Alerts) - maxDetailed; more > 0 {
		p.blank()
		p.line("%d more stand in the table only; all of one: spinecert alerts list ID, all of all: spinecert alerts list --output json", more)
	}
	var sinks [][]string
	var troubles []trouble
	for _, s := range r.Sinks {
		sinks = append(sinks, []string{s.Name, s.Type, s.Min, s.State, strconv.Itoa(s.Pending), stamp(s.LastSent.Time), stamp(s.NextTry.Time)})
		troubles = append(troubles, trouble{s.Name, s.LastError, s.Hint})
	}
	section(p, []string{"SINK", "TYPE", "MIN", "STATE", "WAITING", "LAST SENT", "NEXT TRY"}, sinks, troubles...)
}

// left says how many days are left.
func left(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return strconv.Itoa(daysLeft(at, now)) + "d"
}

// showAlert writes all that is known of an alert.
func showAlert(p *page, al *admin.Alert, now time.Time) {
	p.line("%s: %s", al.ID, al.Message)
	line := func(name, text string) {
		if text != "" {
			p.line("  %s: %s", name, text)
		}
	}
	when := string(al.Severity) + " since " + stamp(al.Since)
	if !al.Ends.IsZero() {
		when += ", ends " + stamp(al.Ends.Time) + " (" + left(al.Ends.Time, now) + ")"
	}
	line("when", when)
	line("stops", al.Stops)
	line("affects", affectsLine(al.Affects))
	line("hint", al.Hint)
	if !strings.Contains(al.Hint, al.Command) {
		line("run", al.Command)
	}
	line("told", told(al))
	if al.Ack != nil {
		line("acknowledged", "by "+al.Ack.By+" until "+stamp(al.Ack.Until))
	}
	line("see", al.Runbook)
}

// told says when it was told, to whom, and when it will be again.
func told(al *admin.Alert) string {
	text := "not yet"
	if !al.Told.IsZero() {
		text = stamp(al.Told.Time)
	}
	if len(al.Sinks) > 0 {
		text += " to " + strings.Join(al.Sinks, ", ")
	}
	if !al.Next.IsZero() {
		text += "; next " + stamp(al.Next.Time)
	}
	return text
}

// affectsLine names who is hit.
func affectsLine(a admin.Affects) string {
	var parts []string
	if len(a.ODS) > 0 {
		parts = append(parts, "ODS "+strings.Join(a.ODS, " "))
	}
	if len(a.ASIDs) > 0 {
		parts = append(parts, "ASID "+strings.Join(a.ASIDs, " "))
	}
	if a.Note != "" {
		parts = append(parts, a.Note)
	}
	return strings.Join(parts, "; ")
}

func newAlertsTestCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "test SINK",
		Short: "Have the daemon send a sink a message that says that nothing is wrong",
		Long: "Sends a message over a sink of the configuration, and waits until the far side has taken it: the mail relay, Alertmanager, the webhook,\n" +
			"the program. Whether it reaches a person is for that person to say. Exit status 1: it did not take it. 2: there is no such sink.",
		Example: "  spinecert alerts test ops",
		Args:    exactArgs("SINK"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), testWait)
			defer cancel()
			d := a.global.findDaemon()
			result, err := d.client().TestSink(ctx, admin.TestRequest{Sink: args[0]})
			if err != nil {
				return a.finish(cmd, nil, d.explain(err))
			}
			return outcome(a, cmd, &alertsTestResult{result}, nil)
		},
	}
}

// alertsTestResult is the result of alerts test.
type alertsTestResult struct{ admin.TestResult }

func (r *alertsTestResult) show(p *page) {
	p.line("%s (%s) took the message after %d ms", r.Sink, r.Type, r.TookMS)
}

func newAlertsAckCmd(a *app) *cobra.Command {
	var how string
	cmd := &cobra.Command{
		Use:   "ack [--for TIME] ID",
		Short: "Say that somebody sees to an alert: it is not repeated for a time",
		Long: "The alert is not told again until the time is over; that it grows worse, or is over, is told all the same. Who said so, and until when,\n" +
			"is kept, shown by alerts list and told with the alert. With --for 0s the word is taken back. Exit status 2: there is no such alert.",
		Example: "  spinecert alerts ack expiring/slot/pcs --for 14d",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			span, err := config.ParseDuration(how)
			if err != nil {
				return usagef("write for example --for 7d; --for 0s ends it", "--for: %w", err)
			}
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			d := a.global.findDaemon()
			al, err := d.client().AckAlert(ctx, admin.AckRequest{ID: args[0], For: span})
			if err != nil {
				return a.finish(cmd, nil, d.explain(err))
			}
			return outcome(a, cmd, &alertsAckResult{al}, nil)
		},
	}
	cmd.Flags().StringVar(&how, "for", usualAck, "how long: `TIME` such as 7d or 12h, 90d at most; 0s takes an earlier word back")
	return cmd
}

// alertsAckResult is the result of alerts ack: the alert afterwards.
type alertsAckResult struct{ admin.Alert }

func (r *alertsAckResult) show(p *page) {
	if r.Ack == nil {
		p.line("%s is told again as configured", r.ID)
		return
	}
	p.line("%s is acknowledged by %s until %s", r.ID, r.Ack.By, stamp(r.Ack.Until))
}
