package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The firmware is played behind the real system call: a seccomp filter hands
// each property call of this process to a goroutine, which answers in the
// caller's memory as the driver would. The daemon's own code runs unchanged,
// down to the number of its ioctl.

// firmware holds the answers of a simulated firmware. playing.mu guards it.
type firmware struct {
	values map[string]uint32 // clock in Hz (old-clock: by command alone), throttled, volts in µV, revision; it knows no others
	gencmd bool              // only text commands pass
	fails  unix.Errno        // every call fails
	calls  int
	wrong  []string // mistakes of the caller
}

// The property interface's numbers, after the firmware's documentation and not
// after the code under test.
const (
	vcioCall32, vcioCall64 = 0xC0046400, 0xC0086400
	answeredBit            = 0x80000000
)

var playing struct {
	once sync.Once
	err  error

	mu sync.Mutex
	fw *firmware
}

// answerAs has this process's property calls answered as the text says until
// the test ends. It skips where the kernel does not let a test do that.
func answerAs(t *testing.T, text string) *firmware {
	t.Helper()
	playing.once.Do(func() { playing.err = intercept() })
	if playing.err != nil {
		t.Skip("no firmware can be played on this system: ", playing.err)
	}
	fw, err := parseFirmware(text)
	if err != nil {
		t.Fatal(err)
	}
	playing.mu.Lock()
	playing.fw = fw
	playing.mu.Unlock()
	t.Cleanup(func() {
		playing.mu.Lock()
		defer playing.mu.Unlock()
		playing.fw = nil
		for _, w := range fw.wrong {
			t.Error(w)
		}
	})
	return fw
}

func parseFirmware(text string) (*firmware, error) {
	fw := &firmware{values: map[string]uint32{}}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "gencmd":
			fw.gencmd = true
		case "fails":
			if fw.fails = map[string]unix.Errno{"ETIMEDOUT": unix.ETIMEDOUT, "EBUSY": unix.EBUSY, "EINTR": unix.EINTR}[value]; fw.fails == 0 {
				return nil, fmt.Errorf("firmware fails with %q", value)
			}
		case "clock", "old-clock", "throttled", "volts", "revision":
			v, err := strconv.ParseUint(value, 0, 32)
			if err != nil {
				return nil, err
			}
			fw.values[key] = uint32(v)
		default:
			return nil, fmt.Errorf("firmware knows no %q", key)
		}
	}
	return fw, nil
}

// intercept installs the filter in all threads and starts answering.
func intercept() error {
	number := uint32(vcioCall64)
	if unsafe.Sizeof(uintptr(0)) == 4 {
		number = vcioCall32
	}
	const dataNumber, dataArg1 = 0, 24 // offsets in struct seccomp_data
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_IOCTL, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataArg1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	probe := []byte{0}
	if err := peek(uintptr(unsafe.Pointer(&probe[0])), probe); err != nil {
		return fmt.Errorf("own memory: %w", err) // as in some containers
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	go answerCalls(listener)
	return nil
}

// notification and verdict are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	ID         uint64
	PID, Flags uint32
	Number     int32
	Arch       uint32
	PC         uint64
	Args       [6]uint64
}

type verdict struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

// answerCalls runs to the end of the process, as the filter does.
func answerCalls(listener uintptr) {
	const receive, send = 0xC0502100, 0xC0182101
	for {
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, receive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the caller was interrupted: it asks again
		}
		playing.mu.Lock()
		errno := playing.fw.call(uintptr(n.Args[2]))
		playing.mu.Unlock()
		v := verdict{ID: n.ID, Error: -int32(errno)}
		unix.Syscall(unix.SYS_IOCTL, listener, send, uintptr(unsafe.Pointer(&v)))
	}
}

// asked returns how many calls there were.
func (fw *firmware) asked() int {
	playing.mu.Lock()
	defer playing.mu.Unlock()
	return fw.calls
}

// call answers one message in the caller's memory.
func (fw *firmware) call(at uintptr) unix.Errno {
	if fw == nil {
		return unix.ENOTTY
	}
	fw.calls++
	if fw.fails != 0 {
		return fw.fails
	}
	head := make([]byte, 4)
	if err := peek(at, head); err != nil {
		return unix.EFAULT
	}
	message := make([]byte, binary.NativeEndian.Uint32(head))
	if len(message) > 4096 || peek(at, message) != nil {
		return unix.EFAULT
	}
	if errno := fw.answer(message); errno != 0 {
		return errno
	}
	if poke(at, message) != nil {
		return unix.EFAULT
	}
	return 0
}

func peek(at uintptr, b []byte) error {
	_, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{iovec(b)}, []unix.RemoteIovec{{Base: at, Len: len(b)}}, 0)
	return err
}

func poke(at uintptr, b []byte) error {
	_, err := unix.ProcessVMWritev(os.Getpid(), []unix.Iovec{iovec(b)}, []unix.RemoteIovec{{Base: at, Len: len(b)}}, 0)
	return err
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// answer answers every tag of a message.
func (fw *firmware) answer(b []byte) unix.Errno {
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
	set := func(i int, v uint32) { binary.NativeEndian.PutUint32(b[4*i:], v) }
	set(1, answeredBit)
	for i := 2; word(i) != 0; i += 3 + int(word(i+1))/4 {
		if fw.gencmd && word(i) != 0x00030080 {
			return unix.EPERM
		}
		switch word(i) {
		case 0x00030080:
			text := b[4*(i+4):] // behind the result code
			set(i+2, answeredBit|copyText(text, fw.text(text)))
			return 0 // vcgencmd sends one alone
		case 0x00030046:
			if word(i+3) != 0 {
				fw.wrong = append(fw.wrong, "somebody clears the throttle bits that all on the board share")
			}
			fw.give("throttled", func(v uint32) { set(i+3, v); set(i+2, answeredBit|4) })
		case 0x00030047:
			fw.give("clock", func(v uint32) { set(i+4, v); set(i+2, answeredBit|8) })
		case 0x00030003:
			fw.give("volts", func(v uint32) { set(i+4, v); set(i+2, answeredBit|8) })
		case 0x00000001:
			fw.give("revision", func(v uint32) { set(i+3, v); set(i+2, answeredBit|4) })
		}
	}
	return 0
}

func (fw *firmware) give(name string, set func(uint32)) {
	if v, ok := fw.values[name]; ok {
		set(v)
	}
}

// text answers a text command as vcgencmd prints it.
func (fw *firmware) text(b []byte) string {
	command, _, _ := strings.Cut(string(b), "\x00")
	name, format, scale := "", "", 1.0
	switch command {
	case "measure_clock arm":
		name, format = "clock", "frequency(48)=%.0f"
	case "measure_volts core":
		name, format, scale = "volts", "volt=%.4fV", 1e-6
	case "get_throttled":
		if v, ok := fw.values["throttled"]; ok {
			return fmt.Sprintf("throttled=0x%x", v)
		}
	}
	v, ok := fw.values[name]
	if old, is := fw.values["old-clock"]; is && name == "clock" {
		v, ok = old, true
	}
	if !ok {
		return `error=1 error_msg="Command not registered"`
	}
	return fmt.Sprintf(format, float64(v)*scale)
}

func copyText(to []byte, text string) uint32 {
	return uint32(copy(to, text+"\x00"))
}
