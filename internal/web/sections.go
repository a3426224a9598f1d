package web

import (
	"strconv"
	"strings"

	g "maragu.dev/gomponents"

	"github.com/spinecert/spinecert/internal/admin"
)

// maxRows is how many rows the tables below the slots have.
const maxRows = 200

// rowsOf draws those of n that match, the first maxRows of them.
func rowsOf(n int, columns []column, matches func(int) bool, draw func(int) g.Node) g.Group {
	var rows g.Group
	more := 0
	for i := range n {
		switch {
		case !matches(i):
		case len(rows) < maxRows:
			rows = append(rows, draw(i))
		default:
			more++
		}
	}
	if more > 0 {
		rows = append(rows, el("tr", attr("role", "row"), el("td", attr("role", "cell"), attr("colspan", strconv.Itoa(len(columns))), class("more"), lit("and "+strconv.Itoa(more)+" more: look for a name, or in status.json"))))
	}
	return rows
}

func serviceSection(snap *snapshot, q query) g.Node {
	all := snap.Status.Services
	columns := []column{{"Service", ""}, {"State", ""}, {"Slot", ""}, {"Generation", "num"}, {"Served ends", ""}, {"Last looked at", ""}}
	rows := rowsOf(len(all), columns, func(i int) bool { return q.matches(all[i].Name, all[i].Slot, all[i].State, all[i].LastError) }, func(i int) g.Node {
		s := &all[i]
		state := g.Group{stateLook(s.State).badge(strings.ReplaceAll(s.State, "_", " "))}
		if s.Waits != "" {
			state = append(state, under(lit("waits: "), text(s.Waits)))
		}
		if s.LastError != "" {
			state = append(state, under(g.If(s.Step != "", g.Group{name(s.Step), lit(": ")}), text(s.LastError)))
		}
		state = append(state, g.If(!s.Retry.IsZero(), under(lit("again at "), moment(s.Retry.Time))))
		served := lit(number(s.Served.Generation))
		if s.Served.Generation != s.Generation {
			served = lit(number(s.Served.Generation) + " of " + number(s.Generation))
		}
		return row(columns, name(s.Name), state, name(s.Slot), served, moment(s.Served.NotAfter.Time), moment(s.Looked.Time))
	})
	return section("services", "Services", "", emptyOf(len(rows), len(all), "No service is configured."), table("Services and what they serve", columns, rows))
}

// number is a generation.
func number(n uint64) string {
	if n == 0 {
		return "none"
	}
	return strconv.FormatUint(n, 10)
}

func tunnelSection(snap *snapshot, q query) g.Node {
	all := snap.Status.Tunnels
	columns := []column{{"Tunnel", ""}, {"State", ""}, {"Slot", ""}, {"Way", ""}, {"Peers", ""}, {"Open", "num"}, {"Accepted", "num"}, {"Refused", "num"}, {"Last refusal", ""}}
	rows := rowsOf(len(all), columns, func(i int) bool {
		t := &all[i]
		return q.matches(t.Name, t.Slot, t.State, t.Forward) || q.matchesAny(t.Peers) || q.matchesAny(t.Listen)
	}, func(i int) g.Node {
		t := &all[i]
		state := g.Group{stateLook(t.State).badge(t.State)}
		if t.Policy == "audit" {
			state = append(state, lit(" "), fair.badge("audit"))
		}
		if t.LastError != "" {
			state = append(state, under(text(t.LastError)))
		}
		refused := g.Group{lit(strconv.FormatUint(t.Refused, 10))}
		if t.Audited > 0 {
			refused = append(refused, under(lit(strconv.FormatUint(t.Audited, 10)+" audited")))
		}
		last := none()
		if t.LastRefusedReason != "" {
			last = g.Group{name(t.LastRefusedReason), under(moment(t.LastRefused.Time))}
		}
		return row(columns, g.Group{name(t.Name), under(text(t.Direction))}, state, name(t.Slot),
			g.Group{names(t.Listen), under(lit("to "), name(t.Forward))}, g.Group{names(t.Peers), under(lit("revocation "), text(t.Revocation))},
			lit(strconv.FormatInt(t.Connections, 10)), lit(strconv.FormatUint(t.Accepted, 10)), refused, last)
	})
	return section("tunnels", "Tunnels", "", emptyOf(len(rows), len(all), "No tunnel is configured."), table("Tunnels and their peers", columns, rows))
}

func environmentSection(snap *snapshot, q query) g.Node {
	all := snap.Status.Environments
	var out g.Group
	for i := range all {
		e := &all[i]
		lists := crlRows(snap, e, q)
		if len(lists) == 0 && !q.matches(e.Name, e.Bundle, e.LastError) {
			continue
		}
		state := good.badge("ready")
		if !e.Ready {
			state = bad.badge("no trust")
		} else if e.LastError != "" {
			state = fair.badge("refused")
		}
		out = append(out, el("div", class("environment"),
			el("h3", name(e.Name), lit(" "), state),
			g.If(e.LastError != "", el("p", text(e.LastError))),
			el("dl", class("facts"),
				fact("Revocation", text(e.Revocation)),
				fact("CAs", lit(counted(e.Roots, "root")+", "+counted(e.SubCAs, "subCA")+expiredCAs(e.Expired))),
				fact("Trust state", lit(strconv.FormatUint(e.Sequence, 10))),
				fact("Bundle", el("span", class("m clip"), attr("title", plain(e.Bundle, maxName)), lit(short(e.Bundle)))),
			),
			g.If(len(lists) > 0, table("Revocation lists of "+plain(e.Name, maxName), crlColumns, lists)),
			g.If(len(e.CRLs) == 0, el("p", class("empty"), lit("No revocation list is known."))),
		))
	}
	return section("trust", "Trust and revocation lists", "", emptyOf(len(out), len(all), "No environment is configured."), out)
}

func expiredCAs(n int) string {
	if n == 0 {
		return ""
	}
	return ", " + strconv.Itoa(n) + " of them expired"
}

// short is the beginning of a digest.
func short(digest string) string {
	if len(digest) > 16 {
		digest = digest[:16]
	}
	return plain(strings.ToValidUTF8(digest, ""), maxName)
}

var crlColumns = []column{{"Issuer", ""}, {"State", ""}, {"Next update", ""}, {"Entries", "num"}, {"From", ""}}

func crlRows(snap *snapshot, e *admin.Environment, q query) g.Group {
	return rowsOf(len(e.CRLs), crlColumns, func(i int) bool { return q.matches(e.Name, e.CRLs[i].Issuer, e.CRLs[i].Origin) }, func(i int) g.Node {
		c := &e.CRLs[i]
		l := good
		state := g.Group{good.badge("in force")}
		if !c.InForce {
			l, state = rest, g.Group{rest.badge("not in force")}
		}
		if c.Error != "" {
			l = fair
			state = append(state, under(text(c.Error)))
		}
		if !c.NextUpdate.IsZero() && c.NextUpdate.Before(snap.Now) {
			l = fair
		}
		issuer := c.Issuer
		if issuer == "" {
			issuer = "not had yet"
		}
		return row(crlColumns, text(issuer), state, end(c.NextUpdate.Time, snap.Now, l), lit(strconv.Itoa(c.Entries)),
			g.Group{name(c.Origin), g.If(!c.Fetched.IsZero(), under(lit("had "), moment(c.Fetched.Time)))})
	})
}

func requestSection(snap *snapshot, q query) g.Node {
	all := snap.Status.Requests
	columns := []column{{"Request", ""}, {"Slot", ""}, {"For", ""}, {"State", ""}, {"Made", ""}}
	rows := rowsOf(len(all), columns, func(i int) bool { return q.matches(all[i].ID, all[i].Slot, all[i].FQDN, all[i].State) }, func(i int) g.Node {
		r := &all[i]
		state := g.Group{rest.badge(r.State)}
		if r.LastError != "" {
			state = append(state, under(text(r.LastError)))
		}
		return row(columns, name(r.ID), name(r.Slot), g.Group{name(r.FQDN), under(text(r.Key))}, state, g.Group{moment(r.Created), under(lit(left(r.Created, snap.Now)+", by "), text(r.By))})
	})
	return section("requests", "Requests", "", emptyOf(len(rows), len(all), "No request waits for its certificate."), table("Requests that wait for their certificate", columns, rows))
}

// maxRefusals is how many of the refusals are shown, the newest first.
const maxRefusals = 50

func refusalSection(snap *snapshot, q query) g.Node {
	all := snap.Refusals
	columns := []column{{"Peer", ""}, {"Tunnel", ""}, {"Last", ""}, {"Outcome", ""}, {"Why", "c-why"}, {"Times", "num"}}
	rows := rowsOf(min(len(all), maxRefusals), columns, func(i int) bool {
		r := &all[i]
		return q.matches(r.Tunnel, r.Peer, r.Name, r.Serial, r.Issuer, r.Reason, r.Result)
	}, func(i int) g.Node {
		r := &all[i]
		peer := g.Group{name(r.Peer)}
		if r.Name != "" {
			peer = g.Group{name(r.Name), under(name(r.Peer))}
		}
		return row(columns, peer, name(r.Tunnel), moment(r.Last), g.Group{text(r.Result), under(name(r.Reason))},
			g.Group{text(r.Message), g.If(r.Hint != "", under(text(r.Hint)))}, lit(strconv.FormatUint(r.Count, 10)))
	})
	about := ""
	if len(all) > maxRefusals {
		about = "The newest " + strconv.Itoa(maxRefusals) + "; spinecert status --refusals lists all that are remembered."
	}
	return section("refusals", "Refused peers", about, emptyOf(len(rows), len(all), "Nobody was refused since the daemon started."), table("Peers that were refused last", columns, rows))
}

func sinkSection(snap *snapshot, q query) g.Node {
	all := snap.Alerts.Sinks
	columns := []column{{"Sink", ""}, {"State", ""}, {"Told from", ""}, {"Still to be told", "num"}, {"Last sent", ""}}
	rows := rowsOf(len(all), columns, func(i int) bool { return q.matches(all[i].Name, all[i].Type, all[i].State) }, func(i int) g.Node {
		s := &all[i]
		state := g.Group{stateLook(s.State).badge(s.State)}
		if s.LastError != "" {
			state = append(state, under(text(s.LastError)), g.If(!s.NextTry.IsZero(), under(lit("again at "), moment(s.NextTry.Time))))
		}
		return row(columns, g.Group{name(s.Name), under(text(s.Type))}, state, text(s.Min), lit(strconv.Itoa(s.Pending)), moment(s.LastSent.Time))
	})
	return section("sinks", "Where alerts go", "", emptyOf(len(rows), len(all), "Alerts go nowhere."), table("Sinks of alerts", columns, rows))
}
