package format

// What callers tell apart.
var (
	// ErrNoChain is that of chain where there is none. Everything else can be written.
	ErrNoChain error = &refusal{"there is no subCA: a root issued the certificate itself", "use fullchain, which then holds the certificate alone"}

	// ErrNoCertificate says that no certificate was given.
	ErrNoCertificate error = &refusal{message: "there is no certificate"}

	// ErrNoKey is that of the private formats.
	ErrNoKey error = &refusal{message: "there is no private key"}

	// ErrNoCAs says that none of the certificates for a trust store is a CA.
	ErrNoCAs error = &refusal{"there is no CA certificate", "name the roots and subCAs in trust of the environment"}

	// ErrNoCRLs is that of crl-pem. A program would refuse everybody with a file that
	// is empty, or nobody.
	ErrNoCRLs error = &refusal{"there is no CRL", "name CRLs in crl of the environment, or leave crl-pem out"}

	// ErrPath is that of ldaprc where a path would not be read as it is written.
	ErrPath error = &refusal{"OpenLDAP reads only an absolute path, without control characters and without a space at its end", "use another directory, or another name"}

	errKey         error = &refusal{message: "the private key is broken, or of a kind that cannot be written"}
	errCertificate error = &refusal{message: "a certificate is broken"}
)

// refusal is an error with the next action.
type refusal struct{ message, hint string }

// Error returns the cause.
func (e *refusal) Error() string { return e.message }

// Hint returns the next action, or "".
func (e *refusal) Hint() string { return e.hint }
