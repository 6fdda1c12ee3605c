package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	readyWithin = 60 * time.Second
	// Compaction comes every 5 minutes by default, which is later than a run ends.
	compactEvery = 20 * time.Second
)

// apiserver is a kube-apiserver process on the judged server.
type apiserver struct {
	client  *kubernetes.Clientset
	process *exec.Cmd
	exited  chan struct{}
	log     string
}

// startAPIServer starts kube-apiserver and returns once it is ready.
func startAPIServer(ctx context.Context, binary, dir, etcdEndpoint string) (*apiserver, error) {
	pki, err := newPKI(dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	a := &apiserver{exited: make(chan struct{}), log: filepath.Join(dir, "kube-apiserver.log")}
	log, err := os.Create(a.log)
	if err != nil {
		return nil, err
	}
	a.process = exec.Command(binary,
		"--etcd-servers="+etcdEndpoint,
		"--etcd-compaction-interval="+compactEvery.String(),
		// Pods are watched through the cache, configmaps straight from the judged server.
		"--watch-cache-sizes=configmaps#0",
		"--bind-address=127.0.0.1",
		"--secure-port="+strconv.Itoa(port),
		"--cert-dir="+dir,
		"--tls-cert-file="+pki.path("server.crt"),
		"--tls-private-key-file="+pki.path("server.key"),
		"--client-ca-file="+pki.path("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+pki.path("accounts.key"),
		"--service-account-signing-key-file="+pki.path("accounts.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC",
		// Nobody makes service accounts here: that is kube-controller-manager's work.
		"--disable-admission-plugins=ServiceAccount",
	)
	a.process.Stdout, a.process.Stderr = log, log
	a.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// A child whose parent's thread ends gets its Pdeathsig, so this thread stays with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(a.exited)
		defer log.Close()
		err := a.process.Start()
		started <- err
		if err == nil {
			a.process.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	a.client, err = kubernetes.NewForConfig(&rest.Config{
		Host: "https://127.0.0.1:" + strconv.Itoa(port),
		TLSClientConfig: rest.TLSClientConfig{
			CAFile:   pki.path("ca.crt"),
			CertFile: pki.path("driver.crt"),
			KeyFile:  pki.path("driver.key"),
		},
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
		QPS:           -1,
	})
	if err != nil {
		return nil, err
	}
	return a, a.waitReady(ctx)
}

func (a *apiserver) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		_, err := a.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-a.exited:
			return fmt.Errorf("kube-apiserver ended, see %s", a.log)
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready within %v: %w", readyWithin, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// running says whether kube-apiserver still lives.
func (a *apiserver) running() bool {
	select {
	case <-a.exited:
		return false
	default:
		return true
	}
}

func (a *apiserver) kill() {
	if a.running() {
		a.process.Process.Kill()
		<-a.exited
	}
}

// pki is a certificate authority of its own with what it signed, as files.
type pki struct {
	dir         string
	authority   *x509.Certificate
	key         *ecdsa.PrivateKey
	certificate int64 // serial number of the last one
}

// newPKI makes all keys and certificates that kube-apiserver and its client need.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	self := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "judge-ca"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return p, errors.Join(
		p.issue("ca", self),
		p.issue("server", &x509.Certificate{
			Subject:     pkix.Name{CommonName: "kube-apiserver"},
			DNSNames:    []string{"localhost"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}),
		p.issue("driver", &x509.Certificate{
			Subject:     pkix.Name{CommonName: "driver", Organization: []string{"system:masters"}},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}),
		p.issue("accounts", &x509.Certificate{Subject: pkix.Name{CommonName: "accounts"}}),
	)
}

func (p *pki) path(file string) string { return filepath.Join(p.dir, file) }

// issue writes name.key and name.crt. The first certificate signs itself and all that follow.
func (p *pki) issue(name string, certificate *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if p.authority == nil {
		p.authority, p.key = certificate, key
	}
	p.certificate++
	certificate.SerialNumber = big.NewInt(p.certificate)
	certificate.NotBefore = time.Now().Add(-time.Hour)
	certificate.NotAfter = time.Now().Add(24 * time.Hour)
	signed, err := x509.CreateCertificate(
		rand.Reader, certificate, p.authority, &key.PublicKey, p.key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	write := func(file, kind string, bytes []byte) error {
		block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
		return os.WriteFile(p.path(file), block, 0o600)
	}
	return errors.Join(
		write(name+".crt", "CERTIFICATE", signed),
		write(name+".key", "EC PRIVATE KEY", secret),
	)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
