package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// digest is the stored form of a random secret. The secrets have 128 bits and
// more, so that a fast hash is enough; passwords take argon2id instead.
type digest [sha256.Size]byte

func hash(secret string) digest { return sha256.Sum256([]byte(secret)) }

func (d digest) matches(secret string) bool {
	other := hash(secret)
	return subtle.ConstantTimeCompare(d[:], other[:]) == 1
}

// random returns n random bytes in hexadecimal.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
