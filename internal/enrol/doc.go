// Package enrol knows the loop of mails by which an endpoint certificate of Spine
// is won (SPINE.md, 4): where a request goes, what the mail says, and what comes
// back, in whatever state.
//
//	letter := enrol.NewLetter(enrol.Applicant{}, requestPEM, enrol.Asked{Name: fqdn})
//
//	var answer enrol.Answer
//	err := answer.Read("answer.txt", mail, nil)
//	fitted, err := enrol.Fit(&answer, key, bundle, time.Now())
//
// It opens no file, sends nothing and knows no time. All functions may be called
// at once; an Answer is for one goroutine.
//
// # Errors
//
// What cannot be read is a [*pki.Error] that names the file. What does not fit is
// a [*trust.VerifyError], whose reason is one of those of peers.
package enrol
