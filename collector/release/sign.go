package main

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// keyringFile is the public key as apt's signed-by and gpgv want it.
const keyringFile = "bramble-archive-keyring.gpg"

// signer signs with one OpenPGP key.
type signer struct {
	entity *openpgp.Entity
	key    *packet.PrivateKey // the signing key: the primary key or a subkey
	config *packet.Config
}

// openSigner reads a secret key. The passphrase may be empty.
func openSigner(file string, passphrase []byte) (*signer, error) {
	entity, err := readKey(file)
	if err != nil {
		return nil, fmt.Errorf("--key %s: %w", file, err)
	}
	k, ok := entity.SigningKey(time.Now())
	if !ok || k.PrivateKey == nil || k.PrivateKey.Dummy() {
		return nil, fmt.Errorf("--key %s: no secret key in it that can sign now: it is a public key, expired, or revoked", file)
	}
	if k.PrivateKey.Encrypted {
		if len(passphrase) == 0 {
			return nil, fmt.Errorf("--key %s is protected: give --passphrase-file FILE", file)
		}
		if err := k.PrivateKey.Decrypt(passphrase); err != nil {
			return nil, fmt.Errorf("--key %s: the passphrase does not open it", file)
		}
	}
	return &signer{entity: entity, key: k.PrivateKey, config: &packet.Config{DefaultHash: crypto.SHA512, SigningKeyId: k.PublicKey.KeyId}}, nil
}

// readKey reads the one key of a file, armored or binary.
func readKey(file string) (*openpgp.Entity, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("not an OpenPGP key: %w", err)
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("holds %d keys, want one: gpg --export-secret-keys FINGERPRINT", len(keys))
	}
	return keys[0], nil
}

// detach writes the armored signature of a file.
func (s *signer) detach(file, signature string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&out, s.entity, bytes.NewReader(b), s.config); err != nil {
		return fmt.Errorf("sign %s: %w", filepath.Base(file), err)
	}
	return os.WriteFile(signature, append(out.Bytes(), '\n'), 0o644)
}

// inline writes a copy of a text that holds its own signature.
func (s *signer) inline(text []byte, file string) error {
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, s.key, s.config)
	if err != nil {
		return fmt.Errorf("sign %s: %w", filepath.Base(file), err)
	}
	_, err = w.Write(text)
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("sign %s: %w", filepath.Base(file), err)
	}
	signed, err := withChecksum(out.Bytes())
	if err != nil {
		return fmt.Errorf("sign %s: %w", filepath.Base(file), err)
	}
	return os.WriteFile(file, signed, 0o644)
}

// withChecksum armors the signature of a clear-signed text again, with the
// checksum that RFC 9580 made optional: without it GnuPG 2.2 and older read the
// line after a signature that needs no padding as a part of it.
func withChecksum(signed []byte) ([]byte, error) {
	block, _ := clearsign.Decode(signed)
	begin := bytes.LastIndex(signed, []byte("-----BEGIN PGP SIGNATURE-----"))
	if block == nil || begin < 0 {
		return nil, errors.New("the signature is not where it should be")
	}
	signature, err := io.ReadAll(block.ArmoredSignature.Body)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(bytes.Clone(signed[:begin]))
	w, err := armor.Encode(out, openpgp.SignatureType, nil)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(signature)
	err = errors.Join(err, w.Close())
	return append(out.Bytes(), '\n'), err
}

// check says whether this key signed a text.
func (s *signer) check(text []byte, signature io.Reader) error {
	_, err := openpgp.CheckArmoredDetachedSignature(openpgp.EntityList{s.entity}, bytes.NewReader(text), signature, s.config)
	return err
}

func (s *signer) writePublicKey(file string) error {
	var b bytes.Buffer
	if err := s.entity.Serialize(&b); err != nil {
		return fmt.Errorf("write public key: %w", err)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
