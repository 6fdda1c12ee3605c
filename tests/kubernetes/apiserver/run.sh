#!/bin/sh
# Builds kube-apiserver (once) and the driver, and judges a server with them. See ../README.md.
set -eu
cd "$(dirname "$0")"
bin=../bin
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
mkdir -p $bin

if [ "$($bin/kube-apiserver --version 2>/dev/null)" != "Kubernetes $version" ]; then
	echo "building kube-apiserver $version, which takes about 6 minutes on 2 cores" >&2
	go build -trimpath -o $bin/kube-apiserver \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" ./kube-apiserver
fi
go build -o $bin/driver ./driver
exec $bin/driver "$@"
