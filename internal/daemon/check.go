package daemon

import (
	"context"
	"errors"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/rotate"
)

// Check loads everything, publishes nothing and returns what would not be ready.
func Check(ctx context.Context, o Options) (report string, ready bool, err error) {
	c, err := config.Load(o.ConfigFile)
	if err != nil {
		return "", false, err
	}
	options := rotate.Options{Store: nothingKept{}}
	dir, err := openState(c.State.Directory)
	if err != nil {
		return "", false, err
	}
	if dir != nil {
		defer dir.Close()
		options.Store, options.CRLs = dir, dir // to read: its changes are refused, and nothing is lost by that
	}
	keeper := rotate.New(options)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	bounded, stop := context.WithTimeout(ctx, stageTimeout)
	defer stop()
	if err := keeper.Apply(bounded, alone(manage.Plan(c, dir))); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", false, err
	}
	report, ready = describe(keeper)
	for _, w := range c.Warnings() {
		report = "warning: " + w.Error() + "\n" + report
	}
	return report, ready, nil
}

// alone takes the fetching out of a plan: the CRLs that are kept are judged, and
// nobody is asked for others.
func alone(p rotate.Plan) rotate.Plan {
	for i := range p.Environments {
		p.Environments[i].Fetch = rotate.CRLFetch{}
	}
	return p
}
