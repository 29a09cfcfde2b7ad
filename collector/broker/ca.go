package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"bramble/collector/registry"
	"bramble/pisensor/report"
	"bramble/storage/durable"
)

// Names of the authority's files in the data directory. Boards pin the key, so
// a backup without it cannot bring them back; the certificate can be made anew
// from it.
const (
	caKeyFile  = "ca.key"
	caCertFile = "ca.crt"
)

// Boards do not look at dates (they may believe that it is 1970), other clients do.
const (
	caLifetime   = 30 * 365 * 24 * time.Hour
	leafLifetime = 5 * 365 * 24 * time.Hour
)

// ErrDamaged is wrapped where a file of the certificate authority is damaged or missing.
var ErrDamaged = errors.New("damaged certificate authority")

// authority is the collector's own CA. Its key is ECDSA on P-256, which TLS
// libraries of all ages verify and a Pi Zero does in milliseconds.
type authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// openAuthority loads the CA from dir and creates missing files there.
func openAuthority(dir string) (*authority, error) {
	keyPath, certPath := filepath.Join(dir, caKeyFile), filepath.Join(dir, caCertFile)
	key, err := loadKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(certPath); err == nil {
			return nil, fmt.Errorf("%w: %s is there but %s is missing: restore it from a backup (or delete %s, and enrol every board again)", ErrDamaged, certPath, keyPath, certPath)
		}
		key, err = createKey(keyPath)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	cert, err := loadCert(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		cert, err = createCert(certPath, key)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, fmt.Errorf("%w: read %s: %w: restore it from a backup", ErrDamaged, certPath, err)
	}
	if !key.Public().(*ecdsa.PublicKey).Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%w: %s does not belong to %s: restore both from one backup", ErrDamaged, keyPath, certPath)
	}
	return &authority{key: key, cert: cert}, nil
}

// checkLost returns an error where both files are missing and boards are enrolled: a new authority would lock all of them out.
func checkLost(dir string, known *registry.Registry) error {
	keyPath := filepath.Join(dir, caKeyFile)
	for _, path := range []string{keyPath, filepath.Join(dir, caCertFile)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	n := 0
	for _, b := range known.Boards() {
		if b.Key != "" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s is missing, and %d boards are enrolled with it: restore it from a backup", ErrDamaged, keyPath, n)
}

// leaf returns a fresh server certificate with its chain, for names and addresses.
func (a *authority) leaf(names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server key: %w", err)
	}
	t := x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Bramble collector"},
		// The CA's own start: a collector whose clock was once ahead must not
		// issue certificates from before its CA.
		NotBefore: a.cert.NotBefore, NotAfter: time.Now().Add(leafLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read own server certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// serverNames are the names under which clients reach this machine: localhost, its host name, its
// addresses, and the operator's names.
func serverNames(configured []string) []string {
	seen := map[string]bool{}
	var names []string
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	add("localhost")
	add("127.0.0.1")
	add("::1")
	if host, err := os.Hostname(); err == nil {
		add(host)
	}
	addresses, _ := net.InterfaceAddrs() // without them, names are fewer; boards do not check them
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			add(n.IP.String())
		}
	}
	for _, name := range configured {
		add(name)
	}
	return names
}

func createKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "PRIVATE KEY", der)
}

func createCert(path string, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Bramble CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := writePEM(path, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// PinOfPEM returns the pin of a CA whose two files are in memory, as a backup has them.
func PinOfPEM(key, cert []byte) (string, error) {
	k, err := parseKey(caKeyFile, key)
	if err != nil {
		return "", err
	}
	c, err := parseCert(caCertFile, cert)
	if err != nil {
		return "", err
	}
	if !k.PublicKey.Equal(c.PublicKey) {
		return "", fmt.Errorf("%s does not belong to %s", caKeyFile, caCertFile)
	}
	return report.Pin(c), nil
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(path, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return key, nil
}

func parseKey(path string, text []byte) (*ecdsa.PrivateKey, error) {
	der, err := parsePEM(path, text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: want an ECDSA key, got %T", path, key)
	}
	return ec, nil
}

func loadCert(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := parseCert(path, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return cert, nil
}

func parseCert(path string, text []byte) (*x509.Certificate, error) {
	der, err := parsePEM(path, text)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return cert, nil
}

func parsePEM(path string, text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read %s: it holds no PEM block: restore it from a backup", path)
	}
	return block.Bytes, nil
}

// writePEM puts a whole file in place, on disk when it returns, or none.
func writePEM(path, kind string, der []byte) error {
	return durable.Replace(path, func(f *os.File) error { return pem.Encode(f, &pem.Block{Type: kind, Bytes: der}) })
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails (crypto/rand)
	b[0] &= 0x7f // RFC 5280: positive
	return new(big.Int).SetBytes(b)
}
