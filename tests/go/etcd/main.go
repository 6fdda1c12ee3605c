// Command etcd is the real etcd server, built from its released module, so
// that the tables of tests/go can be proved against it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
