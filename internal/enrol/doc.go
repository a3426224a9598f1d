// Package enrol knows the loop of mails by which an endpoint certificate of Spine
// is won: where a request goes, and what the mail says (SPINE.md, 4).
//
//	letter := enrol.NewLetter(enrol.Applicant{}, requestPEM, enrol.Asked{Name: fqdn})
//
// It opens no file, sends nothing and knows no time. All functions may be called
// at once.
package enrol
