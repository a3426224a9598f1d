package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// A server and a client on one identity, which follow its files and the trust
// bundle for as long as the program runs.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	keeper := rotate.New(rotate.Options{Events: func(e rotate.Event) { fmt.Println(e.Kind, e.Slot, e.Err) }})
	go keeper.Run(ctx) // returns when ctx ends; in a program, in an errgroup

	err := keeper.Apply(ctx, rotate.Plan{
		Environments: []rotate.EnvironmentConfig{{
			Name: "live", Profile: trust.NHSG2, Trust: []string{"/etc/spinecert/trust/live.pem"}, Revocation: trust.Prefer,
		}},
		Slots: []rotate.SlotConfig{{
			Name: "pcs", Environment: "live", FQDN: "pcs.thirdparty.nhs.uk",
			Files: rotate.Files{Certificate: "/etc/pki/pcs.crt", Key: "/etc/pki/pcs.key"},
		}},
	})
	if err != nil {
		return // the plan is wrong; bad files are no error, see Slot.Status
	}
	slot := keeper.Slot("pcs")

	inbound, err := slot.ServerConfig(trust.Names("proxy.national.ncrs.nhs.uk"))
	if err != nil {
		return
	}
	server := &http.Server{Addr: ":443", TLSConfig: inbound, ReadHeaderTimeout: 10 * time.Second}
	go server.ListenAndServeTLS("", "") // the certificate comes from the configuration

	outbound, err := slot.Endpoint(rotate.EndpointConfig{Role: rotate.Client, Peers: trust.Names("sds.national.ncrs.nhs.uk")})
	if err != nil {
		return
	}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: outbound.Dial}}
	_, err = client.Get("https://sds.national.ncrs.nhs.uk/")
	if errors.Is(err, rotate.ErrNotReady) {
		fmt.Println("the files of the slot were never complete:", slot.Status().Refusal)
	}
}
