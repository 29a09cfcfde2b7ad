package backup

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
)

const (
	// KeyName is the age identity in the data directory that is made where the configuration names none.
	KeyName = "backup.key"
	// maxSecret bounds one file inside secrets.age, in bytes.
	maxSecret = 16 << 20
)

// ErrNoKey is wrapped where the key that opens secrets.age is not there.
var ErrNoKey = errors.New("no key")

// openKey reads an age identity file, as age-keygen writes it, and makes one where there is none.
func openKey(path string) (id *age.X25519Identity, made bool, err error) {
	id, err = readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	if id, err = age.GenerateX25519Identity(); err != nil {
		return nil, false, fmt.Errorf("make backup key: %w", err)
	}
	text := fmt.Sprintf("# created: %s\n# public key: %s\n# Keep a copy of this file away from this machine: it opens secrets.age of the backups.\n%s\n",
		time.Now().UTC().Format(time.RFC3339), id.Recipient(), id)
	if err := writeFile(path, []byte(text)); err != nil {
		return nil, false, explain(fmt.Errorf("write backup key: %w", err))
	}
	return id, true, nil
}

func readKey(path string) (*age.X25519Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read backup key: %w", err)
	}
	defer f.Close()
	all, err := age.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("read backup key %s: %w", path, err)
	}
	for _, one := range all {
		if id, ok := one.(*age.X25519Identity); ok {
			return id, nil
		}
	}
	return nil, fmt.Errorf("read backup key %s: it holds no line AGE-SECRET-KEY-1…: give an identity file as age-keygen writes it", path)
}

// secret is one file of secrets.age: a path's, or a text.
type secret struct {
	name, path string
	text       []byte
}

// seal writes files, encrypted for id, to w.
func seal(w io.Writer, id *age.X25519Identity, files []secret) error {
	encrypted, err := age.Encrypt(w, id.Recipient())
	if err != nil {
		return fmt.Errorf("encrypt secrets: %w", err)
	}
	archive := tar.NewWriter(encrypted)
	for _, f := range files {
		if err := sealFile(archive, f); err != nil {
			return fmt.Errorf("encrypt %s: %w", cmp.Or(f.path, f.name), err)
		}
	}
	return errors.Join(archive.Close(), encrypted.Close())
}

func sealFile(archive *tar.Writer, f secret) error {
	data, err := f.text, error(nil)
	if f.path != "" {
		data, err = os.ReadFile(f.path)
	}
	if err != nil {
		return err
	}
	if len(data) > maxSecret {
		return fmt.Errorf("it has %d bytes, want at most %d", len(data), maxSecret)
	}
	if err := archive.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = archive.Write(data)
	return err
}

// unseal decrypts secrets.age and hands each file to take, by its name, which is one below a directory.
func unseal(secrets io.Reader, id age.Identity, take func(name string, r io.Reader) error) error {
	plain, err := age.Decrypt(secrets, id)
	if err != nil {
		return fmt.Errorf("decrypt %s: %w: give the key that the manifest names as recipient", secretsFile, err)
	}
	archive := tar.NewReader(plain)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decrypt %s: %w", secretsFile, err)
		}
		if !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg || h.Size > maxSecret {
			return fmt.Errorf("decrypt %s: %s is not a file that a backup can hold", secretsFile, h.Name)
		}
		if err := take(h.Name, archive); err != nil {
			return fmt.Errorf("decrypt %s of %s: %w", h.Name, secretsFile, err)
		}
	}
}

// unsealInto returns the function that writes the files of secrets.age below dir.
func unsealInto(dir string) func(name string, r io.Reader) error {
	return func(name string, r io.Reader) error {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return explain(errors.Join(err, f.Sync(), f.Close()))
	}
}

// archiveNames gives each file a name of its own below a folder.
func archiveNames(folder string, paths []string) []secret {
	var all []secret
	seen := map[string]bool{}
	for _, p := range paths {
		name := folder + "/" + filepath.Base(p)
		for i := 2; seen[name]; i++ {
			name = fmt.Sprintf("%s/%d-%s", folder, i, strings.TrimPrefix(filepath.Base(p), "/"))
		}
		seen[name] = true
		all = append(all, secret{name: name, path: p})
	}
	return all
}
