package cli

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/config"
)

// The thresholds where no flag says otherwise.
const (
	usualWarning  = "30d"
	usualCritical = "7d"
)

// checksAtOnce bounds how many files and peers are looked at side by side: those that
// do not answer cost one time limit together, and not one each.
const checksAtOnce = 32

// checkOptions are the flags of check.
type checkOptions struct {
	files        []string
	endpoints    []string
	slots        []string
	trust        []string
	environment  string
	name         string
	sni          string
	leafOnly     bool
	passwordFile string
	warning      string
	critical     string
	outputFile   string

	daemon daemonAddress
	config string        // of --config; "" is the default one
	limit  time.Duration // for each file, each peer, and the daemon
	now    time.Time
	// textfile is --output textfile.
	textfile bool
}

// newCheckCmd builds the command check.
func newCheckCmd(a *app) *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:   "check [--file F]... [--endpoint HOST:PORT]... [--slot S]...",
		Short: "Check expiry and conditions, as a plugin of Nagios, Icinga or Zabbix",
		Long: "Says in one line, and with its exit status, whether somebody has to do something. What is named is checked: files, peers, slots of the\n" +
			"daemon. With nothing named: all that the daemon has, which is slots, CAs, services, requests and every other condition.\n\n" +
			"--file judges dates alone. --endpoint judges the dates of what a peer serves, and with --trust or --environment the whole chain, as\n" +
			"spinecert verify does. Neither needs a daemon. The remaining life that is as long as a threshold, or shorter, has reached it.\n\n" +
			"Exit status, that of monitoring plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. A daemon or a peer that does not answer is 2; flags\n" +
			"that are wrong and files that cannot be read are 3. Of several, the worst: CRITICAL, UNKNOWN, WARNING, OK.\n\n" +
			"--output textfile writes metrics for node_exporter instead. How things stand is in them, and the exit status is 0 once they are written,\n" +
			"else 3. With --output-file they go to a file that is replaced as a whole, and the line goes to stdout; what could not be looked at\n" +
			"keeps the dates of the run before.",
		Example: "  spinecert check\n  spinecert check --slot pcs --warning 60d\n  spinecert check --file /etc/pki/tls/certs/pcs.crt\n" +
			"  spinecert check --endpoint pcs.example:443 --trust live-bundle.pem\n" +
			"  spinecert check --output textfile --output-file /var/lib/prometheus/node-exporter/spinecert.prom",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.daemon, o.config, o.limit, o.now = a.global.findDaemon(), a.global.config, a.global.timeout, time.Now()
			if o.limit == 0 {
				o.limit = usualWait
			}
			o.textfile = a.global.output == outputTextfile
			result, err := runCheck(cmd.Context(), o)
			if o.textfile && result != nil {
				published, err := o.publish(result)
				return a.finish(cmd, published, err)
			}
			return outcome(a, cmd, result, err)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.files, "file", nil, "certificates of file `F`: the first to end counts (repeatable)")
	flags.StringArrayVar(&o.endpoints, "endpoint", nil, "what `HOST:PORT` serves (repeatable)")
	flags.StringArrayVar(&o.slots, "slot", nil, "slot `S` of the daemon: certificate, chain, services, conditions (repeatable)")
	flags.StringVar(&o.warning, "warning", usualWarning, "WARNING when it ends in this `TIME` or sooner, such as 30d or 12h")
	flags.StringVar(&o.critical, "critical", usualCritical, "CRITICAL when it ends in this `TIME` or sooner")
	flags.BoolVar(&o.leafOnly, "leaf-only", false, "of a file or peer the end certificate alone, and not its CAs")
	flags.StringVar(&o.passwordFile, "password-file", "", "`F` has the password of PKCS#12 files in its first line")
	flags.StringArrayVar(&o.trust, "trust", nil, "judge peers with `FILE` of roots and subCAs (repeatable)")
	flags.StringVar(&o.environment, "environment", "", "judge peers with this environment of the configuration")
	flags.StringVar(&o.name, "name", "", "the name that is expected of peers (default HOST); with --trust or --environment")
	flags.StringVar(&o.sni, "sni", "", "server name to ask peers for (default HOST, or --name where HOST is an address)")
	flags.StringVar(&o.outputFile, "output-file", "", "with --output textfile: replace `F`, whose name ends in "+textfileEnd+", as a whole")
	return cmd
}

// runCheck looks at everything that was named. There is a result unless the flags are
// wrong. The error is that the result is not OK, or what is wrong with the flags.
func runCheck(ctx context.Context, o *checkOptions) (*checkResult, error) {
	limits, err := o.limits()
	if err != nil {
		return nil, err
	}
	if err := o.conflicts(); err != nil {
		return nil, err
	}
	var looks []look
	if len(o.slots) > 0 || len(o.files)+len(o.endpoints) == 0 {
		looks = append(looks, o.daemonLook(limits))
	}
	for _, name := range unique(o.files) {
		looks = append(looks, o.fileLook(name, limits))
	}
	for _, address := range unique(o.endpoints) {
		looks = append(looks, o.endpointLook(address, limits))
	}
	r := newCheckResult(o.all(ctx, looks), limits)
	return r, r.failure()
}

// unique returns what is in names, each once.
func unique(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// limits reads the thresholds.
func (o *checkOptions) limits() (checkLimits, error) {
	var l checkLimits
	for _, flag := range []struct {
		name, text string
		into       *int64
	}{{"--warning", o.warning, &l.warning}, {"--critical", o.critical, &l.critical}} {
		d, err := config.ParseDuration(flag.text)
		if err != nil {
			return l, usagef("write for example "+flag.name+" 30d, or 12h", "%s: %w", flag.name, err)
		}
		*flag.into = int64(d / time.Second)
	}
	if l.warning < l.critical {
		return l, usagef("what is CRITICAL has been a WARNING before: --warning 30d --critical 7d", "--warning %s is less than --critical %s", o.warning, o.critical)
	}
	return l, nil
}

// conflicts refuses flags that say nothing together.
func (o *checkOptions) conflicts() error {
	judged := len(o.trust) > 0 || o.environment != ""
	switch {
	case slices.Contains(slices.Concat(o.files, o.endpoints, o.slots), ""):
		return usagef("is a variable of the command empty?", "--file, --endpoint and --slot want something")
	case slices.Contains(o.files, standardInput):
		return usagef("name the file", "--file -: standard input is not checked")
	case len(o.trust) > 0 && o.environment != "":
		return usagef("leave one of them out", "--trust and --environment: trust comes from one of them")
	case len(o.endpoints) == 0 && (judged || o.name != "" || o.sni != ""):
		return usagef("files and slots are not judged here: spinecert verify judges a file", "--trust, --environment, --name and --sni need --endpoint")
	case o.name != "" && !judged:
		return usagef("say whom to trust as well; --sni is the name to ask for", "--name needs --trust or --environment")
	case o.passwordFile != "" && len(o.files) == 0:
		return usagef("leave it out", "--password-file needs --file")
	case o.outputFile != "" && !o.textfile:
		return usagef("add --output textfile; a shell sends anything else to a file", "--output-file needs --output textfile")
	case o.outputFile != "" && !strings.HasSuffix(o.outputFile, textfileEnd):
		return usagef("write for example --output-file spinecert"+textfileEnd, "--output-file %q: node_exporter reads no file of that name", o.outputFile)
	case o.leafOnly && len(o.files)+len(o.endpoints) == 0:
		return usagef("leave it out", "--leaf-only needs --file or --endpoint")
	}
	for _, address := range o.endpoints {
		if !isAddress(address) {
			return usagef("write for example --endpoint pcs.example:443, without https://; an IPv6 address stands in brackets", "--endpoint %q: not HOST:PORT", address)
		}
	}
	return nil
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n > 0 && host != ""
}

// look is one thing to look at. late is what is said of it when that takes too long.
type look struct {
	do   func(context.Context) []checkItem
	late checkItem
}

// all looks at everything, and returns what was found, in the order of looks.
func (o *checkOptions) all(ctx context.Context, looks []look) []checkItem {
	found := make([][]checkItem, len(looks))
	turn := make(chan struct{}, checksAtOnce)
	var all sync.WaitGroup
	for i, l := range looks {
		turn <- struct{}{}
		all.Go(func() {
			found[i] = o.bounded(ctx, l)
			<-turn
		})
	}
	all.Wait()
	return slices.Concat(found...)
}

// bounded waits a moment longer than what it looks with: that can say what it waited
// for. A file on a disk that is gone ends with no context.
func (o *checkOptions) bounded(ctx context.Context, l look) []checkItem {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	done := make(chan []checkItem, 1)
	go func() { done <- l.do(ctx) }()
	patience := time.NewTimer(o.limit + time.Second)
	defer patience.Stop()
	select {
	case items := <-done:
		return items
	case <-patience.C:
		return []checkItem{l.late}
	}
}

// asPlugin gives errors that are no result, such as a wrong flag, the form of one: whoever
// reads a plugin reads the first line of stdout, and for a monitoring system 2 would be CRITICAL.
func (a *app) asPlugin(cmd *cobra.Command, r report, err error) (report, error) {
	if r != nil || err == nil {
		return r, err
	}
	result, failure := unknown(err)
	if a.global.output == outputTextfile && !cmd.Flags().Changed("output-file") {
		// Stdout becomes a file, which nobody reads as text, and an empty one would end every alert.
		failure.told = false
		return result.metrics(time.Now().Unix()), failure
	}
	return result, failure
}

// unknown is the result when nothing could be checked, and err as its error.
func unknown(err error) (*checkResult, *exitError) {
	_, code := classify(err)
	item := checkItem{Kind: checkUsage, Status: pluginUnknown, Message: err.Error()}
	return newCheckResult([]checkItem{item}, checkLimits{}), &exitError{exit: int(pluginUnknown), code: code, err: err, told: true}
}

// isPlugin reports whether cmd is the one with exit statuses of its own.
func isPlugin(cmd *cobra.Command) bool { return commandName(cmd) == "check" }

// failure is nil where all is OK. The result says everything, so that stderr stays empty.
func (r *checkResult) failure() error {
	if r.Status == pluginOK {
		return nil
	}
	return &exitError{exit: int(r.Status), code: r.Status.word(), err: errors.New(r.Summary), told: true}
}
