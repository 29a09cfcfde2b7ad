package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost of a password hash: OWASP's Password Storage Cheat Sheet, argon2id with
// 19 MiB, 2 passes and 1 lane.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
	argonSize   = 32 // bytes
)

// Lengths of a password, in bytes. NIST SP 800-63B asks for at least 8.
const (
	minPassword = 8
	maxPassword = 1024
)

func validatePassword(password string) error {
	if len(password) < minPassword || len(password) > maxPassword {
		return fmt.Errorf("password of %d characters: use %d to %d", len(password), minPassword, maxPassword)
	}
	return nil
}

// hashPassword returns the password's stored form, a PHC string.
func (r *Registry) hashPassword(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails (crypto/rand)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes,
		b64(salt), b64(r.argon(password, salt, argonPasses, argonMemory, argonLanes)))
}

func (r *Registry) argon(password string, salt []byte, passes, memory uint32, lanes uint8) []byte {
	r.hashing.Lock()
	defer r.hashing.Unlock()
	return argon2.IDKey([]byte(password), salt, passes, memory, lanes, argonSize)
}

// checkPassword compares in a time that does not depend on the password.
func (r *Registry) checkPassword(stored, password string) bool {
	part := strings.Split(stored, "$")
	if len(part) != 6 || part[1] != "argon2id" || len(password) > maxPassword {
		return false
	}
	var memory, passes uint32
	var lanes uint8
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); err != nil || passes == 0 || lanes == 0 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(part[4])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(part[5])
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare(want, r.argon(password, salt, passes, memory, lanes)) == 1
}

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
