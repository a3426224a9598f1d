package enrol

import (
	"cmp"
	"strings"
)

// Desk is a place that takes requests.
type Desk struct {
	For     string // the environments, or the service
	Address string // of mail
	Other   string // another way than mail, or ""
}

// Desks returns the places that take requests (SPINE.md, 4). Which one is right
// depends on the environment, and no host name tells that (SPINE.md, 3).
func Desks() []Desk {
	return []Desk{
		{For: "live", Address: "dir@nhs.net"},
		{For: "path to live: INT, DEP, DEV, TRAIN, NFT, OpenTest", Address: "itoc.supportdesk@nhs.net",
			Other: `the form "Combined endpoint and service registration request"`},
		{For: "MESH", Address: "ssd.nationalservicedesk@nhs.net"},
	}
}

// DesksFor returns the places for a request of an environment, where its name or
// fqdn tells: live and the names of the path to live as they are usually written
// (SPINE.md, 1), and the names of MESH endpoints. Else it returns all, as the name
// of an environment is the operator's choice.
func DesksFor(environment, fqdn string) []Desk {
	all := Desks()
	if strings.HasSuffix(fqdn, ".mesh-client.nhs.uk") {
		return all[2:]
	}
	switch strings.ToLower(environment) {
	case "live":
		return all[:1]
	case "ptl", "int", "dep", "dev", "train", "nft", "opentest":
		return all[1:2]
	}
	return all
}

// Applicant is who asks. Empty fields become places to fill in.
type Applicant struct {
	Organisation, ODS, Contact string
}

// Asked is what is asked for.
type Asked struct {
	Name  string   // common name
	Names []string // alternative names, if any were asked for
	Key   string   // kind of key, such as "RSA 2048"

	// What a slot knows. Empty, they become places to fill in.
	Environment string // its name in the configuration
	Reason      string // as the desks want it: new endpoint, or when the one before expires
}

// Letter is a mail that is ready but for its places to fill in, which stand in
// angle brackets. It holds the request and nothing of its key.
type Letter struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Body    string `json:"body"`
}

// NewLetter writes the mail with the fields that the desks ask for: organisation,
// contact, CN, reason and environment (SPINE.md, 4).
func NewLetter(by Applicant, requestPEM []byte, asked Asked) Letter {
	var to, body strings.Builder
	desks := DesksFor(asked.Environment, asked.Name)
	for i, d := range desks {
		if i > 0 {
			to.WriteString(", or ")
		}
		environments, _, _ := strings.Cut(d.For, ":")
		to.WriteString(d.Address + " for " + environments)
	}
	field := func(label, value, fill string) {
		body.WriteString(label + ": " + cmp.Or(value, "<"+fill+">") + "\n")
	}
	body.WriteString("Please issue an endpoint certificate for the request below.\n\n")
	field("Organisation", by.Organisation, "name of the organisation")
	field("ODS code", by.ODS, "its ODS code")
	field("Contact", by.Contact, "name, telephone and mail address of a person")
	field("Environment", asked.Environment, "live, INT, DEP, DEV, TRAIN, NFT or OpenTest")
	field("Reason", asked.Reason, "new endpoint, or: the certificate of this name expires on DATE")
	field("Common name", asked.Name, "")
	if len(asked.Names) > 0 {
		field("Alternative names", strings.Join(asked.Names, ", "), "")
	}
	field("Key", asked.Key, "")
	body.WriteString("\n")
	body.Write(requestPEM)
	address := "<" + to.String() + ">"
	if len(desks) == 1 {
		address = desks[0].Address
	}
	return Letter{To: address, Subject: "Endpoint certificate request: " + asked.Name, Body: body.String()}
}
