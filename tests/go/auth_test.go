package contract

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	denied     = `PermissionDenied: etcdserver: permission denied`
	noUser     = `InvalidArgument: etcdserver: user name is empty`
	badToken   = `Unauthenticated: etcdserver: invalid auth token`
	authFailed = `InvalidArgument: etcdserver: authentication failed, invalid user ID or password`
)

// users is a store with root, ada who may read and write [a,c), and ben who
// may read a and write everything from x on. Authentication is off yet.
var users = []step{
	{call: "AuthStatus", req: ``, want: `@1 authRevision=1`},
	{name: "enable without root", call: "AuthEnable", req: ``, want: `FailedPrecondition: etcdserver: root user does not exist`},
	{name: "no name", call: "UserAdd", req: `password:"p"`, want: noUser},
	{call: "UserAdd", req: `name:"root" password:"r"`, want: `@1`},
	{name: "twice", call: "UserAdd", req: `name:"root" password:"r"`, want: `FailedPrecondition: etcdserver: user name already exists`},
	{name: "enable without the role", call: "AuthEnable", req: ``, want: `FailedPrecondition: etcdserver: root user does not have root role`},
	{name: "no role name", call: "RoleAdd", req: ``, want: `InvalidArgument: etcdserver: role name is empty`},
	{name: "grant an unknown role", call: "UserGrantRole", req: `user:"root" role:"none"`, want: `FailedPrecondition: etcdserver: role name not found`},
	{name: "grant to an unknown user", call: "UserGrantRole", req: `user:"none" role:"root"`, want: `FailedPrecondition: etcdserver: user name not found`},
	{name: "the role root need not be there to be granted", call: "UserGrantRole", req: `user:"root" role:"root"`, want: `@1`},
	{call: "UserAdd", req: `name:"ada" password:"a"`, want: `@1`},
	{call: "UserAdd", req: `name:"ben" password:"b"`, want: `@1`},
	{call: "UserAdd", req: `name:"cat" options{no_password:true}`, want: `@1`},
	{call: "RoleAdd", req: `name:"reader"`, want: `@1`},
	{name: "twice", call: "RoleAdd", req: `name:"reader"`, want: `FailedPrecondition: etcdserver: role name already exists`},
	{call: "RoleAdd", req: `name:"writer"`, want: `@1`},
	{name: "no permission given", call: "RoleGrantPermission", req: `name:"reader"`, want: `InvalidArgument: etcdserver: permission not given`},
	{name: "unknown role", call: "RoleGrantPermission", req: `name:"none" perm{key:"a"}`, want: `FailedPrecondition: etcdserver: role name not found`},
	{call: "RoleGrantPermission", req: `name:"reader" perm{permType:READ key:"a"}`, want: `@1`},
	{call: "RoleGrantPermission", req: `name:"reader" perm{permType:WRITE key:"x" range_end:"\000"}`, want: `@1`},
	{call: "RoleGrantPermission", req: `name:"writer" perm{permType:READWRITE key:"a" range_end:"c"}`, want: `@1`},
	{call: "UserGrantRole", req: `user:"ada" role:"writer"`, want: `@1`},
	{call: "UserGrantRole", req: `user:"ben" role:"reader"`, want: `@1`},
	{name: "users", call: "UserList", req: ``, want: `@1 users=[ada ben cat root]`},
	{name: "roles", call: "RoleList", req: ``, want: `@1 roles=[reader writer]`},
	{name: "a user", call: "UserGet", req: `name:"ada"`, want: `@1 roles=[writer]`},
	{name: "an unknown user", call: "UserGet", req: `name:"none"`, want: `FailedPrecondition: etcdserver: user name not found`},
	{name: "a role", call: "RoleGet", req: `role:"reader"`, want: `@1 perm=[key=a; permType=WRITE key=x range_end=\x00]`},
	{name: "an unknown role", call: "RoleGet", req: `role:"none"`, want: `FailedPrecondition: etcdserver: role name not found`},
	{name: "authenticate while it is off", call: "Authenticate", req: `name:"ada" password:"a"`, want: `FailedPrecondition: etcdserver: authentication is not enabled`},
	{name: "revoke a role that was not granted", call: "UserRevokeRole", req: `name:"ada" role:"reader"`, want: `FailedPrecondition: etcdserver: role is not granted to the user`},
	{name: "revoke a permission that was not granted", call: "RoleRevokePermission", req: `role:"reader" key:"q"`, want: `FailedPrecondition: etcdserver: permission is not granted to the role`},
	{name: "delete an unknown user", call: "UserDelete", req: `name:"none"`, want: `FailedPrecondition: etcdserver: user name not found`},
	{name: "delete an unknown role", call: "RoleDelete", req: `role:"none"`, want: `FailedPrecondition: etcdserver: role name not found`},
	{name: "change the password of an unknown user", call: "UserChangePassword", req: `name:"none" password:"x"`, want: `FailedPrecondition: etcdserver: user name not found`},
	{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
	{call: "Put", req: `key:"z" value:"1"`, want: `@3`},
	{call: "LeaseGrant", req: `ID:7 TTL:5000`, want: `@3 ID=7 TTL=5000`},
	{call: "Put", req: `key:"z" lease:7`, want: `@4`},
	{call: "AuthEnable", req: ``, want: `@4`},
	{name: "from now on one must say who one is", call: "AuthEnable", req: ``, want: noUser},
}

func (s *server) login(name, password string) *server {
	s.t.Helper()
	got, err := pb.NewAuthClient(s.conn).Authenticate(s.context(), &pb.AuthenticateRequest{Name: name, Password: password})
	must(s.t, err)
	return s.as(got.Token)
}

func TestAuth(t *testing.T) {
	needs(t, "auth")
	s := start(t, "--bcrypt-cost=4")
	check(t, s, users)
	check(t, s, []step{
		{name: "the revision counts the changes", call: "AuthStatus", req: ``, want: `@4 enabled authRevision=13`},
		{name: "no token: range", call: "Range", req: `key:"a"`, want: noUser},
		{name: "no token: put", call: "Put", req: `key:"a"`, want: noUser},
		{name: "no token: checks of form come first", call: "Put", req: ``, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "no token: txn", call: "Txn", req: `success{request_range{key:"a"}}`, want: noUser},
		{name: "no token: an empty txn asks for nothing", call: "Txn", req: ``, want: `@4 succeeded`},
		{name: "no token: compact", call: "Compact", req: `revision:2`, want: noUser},
		{name: "no token: status", call: "Status", req: ``, want: noUser},
		{name: "no token: members", call: "MemberList", req: ``, want: noUser},
		{name: "no token: alarms", call: "Alarm", req: ``, want: noUser},
		{name: "no token: grant", call: "LeaseGrant", req: `ID:8 TTL:5000`, want: noUser},
		{name: "no token: leases", call: "LeaseLeases", req: ``, want: noUser},
		{name: "no token: keep alive", call: "LeaseKeepAlive", req: `ID:7`, want: noUser},
		{name: "no token: time to live", call: "LeaseTimeToLive", req: `ID:7`, want: noUser},
		{name: "no token: revoke", call: "LeaseRevoke", req: `ID:7`, want: noUser},
		{name: "no token: users", call: "UserList", req: ``, want: noUser},
		{name: "wrong password", call: "Authenticate", req: `name:"ada" password:"x"`, want: authFailed},
		{name: "unknown user", call: "Authenticate", req: `name:"none" password:"x"`, want: authFailed},
		{name: "no password", call: "Authenticate", req: `name:"ada"`, want: authFailed},
		{name: "a user without password", call: "Authenticate", req: `name:"cat" password:"x"`, want: `Unknown: auth: authentication failed, password was given for no password user`},
	})
	check(t, s.as("nonsense"), []step{
		{name: "bad token: range", call: "Range", req: `key:"a"`, want: badToken},
		{name: "bad token: put", call: "Put", req: `key:"a"`, want: badToken},
		{name: "bad token: status", call: "Status", req: ``, want: badToken},
		{name: "bad token: auth status", call: "AuthStatus", req: ``, want: badToken},
	})

	ada, ben, root := s.login("ada", "a"), s.login("ben", "b"), s.login("root", "r")
	check(t, ada, []step{
		{name: "read", call: "Range", req: `key:"a"`, want: `@4 kvs=[a=1/2.2.1] count=1`},
		{name: "read the range", call: "Range", req: `key:"a" range_end:"c"`, want: `@4 kvs=[a=1/2.2.1] count=1`},
		{name: "read beyond", call: "Range", req: `key:"a" range_end:"d"`, want: denied},
		{name: "read from a key", call: "Range", req: `key:"a" range_end:"\000"`, want: denied},
		{name: "read everything", call: "Range", req: `key:"\000" range_end:"\000"`, want: denied},
		{name: "stream beyond", call: "RangeStream", req: `key:"a" range_end:"d"`, want: denied},
		{name: "write", call: "Put", req: `key:"b" value:"1" prev_kv:true`, want: `@5`},
		{name: "write beyond", call: "Put", req: `key:"c" value:"1"`, want: denied},
		{name: "delete", call: "DeleteRange", req: `key:"b" prev_kv:true`, want: `@6 deleted=1 prev_kvs=[b=1/5.5.1]`},
		{name: "delete beyond", call: "DeleteRange", req: `key:"a" range_end:"z"`, want: denied},
		{name: "txn", call: "Txn", req: `compare{key:"a" target:VERSION version:1} success{request_put{key:"b" value:"2"}}`, want: `@7 succeeded responses=[put(~7)]`},
		{name: "txn with a foreign compare", call: "Txn", req: `compare{key:"z" target:VERSION version:1}`, want: denied},
		{name: "txn with a foreign put in the branch not taken", call: "Txn", req: `failure{request_put{key:"z"}}`, want: denied},
		{name: "txn with a foreign nested range", call: "Txn", req: `success{request_txn{success{request_range{key:"z"}}}}`, want: denied},
		{name: "attach to a lease with foreign keys", call: "Put", req: `key:"b" lease:7`, want: denied},
		{name: "revoke a lease with foreign keys", call: "LeaseRevoke", req: `ID:7`, want: denied},
		{name: "its time to live", call: "LeaseTimeToLive", req: `ID:7`, want: `@7 ID=7 TTL=* grantedTTL=5000`},
		{name: "its keys", call: "LeaseTimeToLive", req: `ID:7 keys:true`, want: denied},
		{name: "keep it alive", call: "LeaseKeepAlive", req: `ID:7`, want: denied},
		{name: "keep a missing lease alive", call: "LeaseKeepAlive", req: `ID:99`, want: `@7 ID=99`},
		{name: "grant a lease", call: "LeaseGrant", req: `ID:9 TTL:5000`, want: `@7 ID=9 TTL=5000`},
		{name: "leases, one of them with foreign keys", call: "LeaseLeases", req: ``, want: denied},
		{name: "compact", call: "Compact", req: `revision:3`, want: denied},
		{name: "alarms", call: "Alarm", req: ``, want: `@7`},
		{name: "raise an alarm", call: "Alarm", req: `action:ACTIVATE alarm:NOSPACE`, want: denied},
		{name: "defragment", call: "Defragment", req: ``, want: denied},
		{name: "hash", call: "Hash", req: ``, want: denied},
		{name: "hash of the keys", call: "HashKV", req: ``, want: denied},
		{name: "add a member", call: "MemberAdd", req: `peerURLs:"http://127.0.0.1:1"`, want: denied},
		{name: "users", call: "UserList", req: ``, want: denied},
		{name: "oneself", call: "UserGet", req: `name:"ada"`, want: `@7 roles=[writer]`},
		{name: "another user", call: "UserGet", req: `name:"ben"`, want: denied},
		{name: "one's own role", call: "RoleGet", req: `role:"writer"`, want: `@7 perm=[permType=READWRITE key=a range_end=c]`},
		{name: "another role", call: "RoleGet", req: `role:"reader"`, want: denied},
		{name: "disable", call: "AuthDisable", req: ``, want: denied},
	})
	check(t, ben, []step{
		{name: "read", call: "Range", req: `key:"a"`, want: `@7 kvs=[a=1/2.2.1] count=1`},
		{name: "write what one may only read", call: "Put", req: `key:"a"`, want: denied},
		{name: "write from x on", call: "Put", req: `key:"zz" value:"1"`, want: `@8`},
		{name: "read what one may only write", call: "Range", req: `key:"zz"`, want: denied},
		{name: "the previous value needs reading", call: "Put", req: `key:"zz" value:"2" prev_kv:true`, want: denied},
		{name: "of a deletion too", call: "DeleteRange", req: `key:"zz" prev_kv:true`, want: denied},
		{name: "delete to the end", call: "DeleteRange", req: `key:"y" range_end:"\000"`, want: `@9 deleted=2`},
	})
	follow(t, ada.watch("token", ada.token), []watchStep{
		{name: "watch beyond", send: `create_request{key:"a" range_end:"d"}`, want: []string{"-1 @9 created canceled cancel_reason=rpc error: code = PermissionDenied desc = etcdserver: permission denied"}},
		{name: "watch from a key", send: `create_request{key:"a" range_end:"\000"}`, want: []string{"-1 @9 created canceled cancel_reason=rpc error: code = PermissionDenied desc = etcdserver: permission denied"}},
		{name: "watch", send: `create_request{key:"a" range_end:"c"}`, want: []string{"0 @9 created"}},
	})
	follow(t, s.watch(), []watchStep{
		{name: "watch without token", send: `create_request{key:"a"}`, want: []string{"-1 @9 created canceled cancel_reason=rpc error: code = InvalidArgument desc = etcdserver: user name is empty"}},
	})
	follow(t, s.watch("token", "nonsense"), []watchStep{
		{name: "watch with a bad token", send: `create_request{key:"a"}`, want: []string{"-1 @9 created canceled cancel_reason=rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"}},
	})

	check(t, root, []step{
		{name: "leases", call: "LeaseLeases", req: ``, want: `@9 leases=[ID=*; ID=*]`},
		{name: "everything", call: "Range", req: `key:"\000" range_end:"\000"`, want: `@9 kvs=[a=1/2.2.1 b=2/7.7.1] count=2`},
		{name: "enable twice", call: "AuthEnable", req: ``, want: `@9`},
		{call: "Compact", req: `revision:3`, want: `@9`},
		{name: "delete root", call: "UserDelete", req: `name:"root"`, want: `InvalidArgument: etcdserver: invalid auth management`},
		{name: "delete the role root", call: "RoleDelete", req: `role:"root"`, want: `InvalidArgument: etcdserver: invalid auth management`},
		{name: "revoke root from root", call: "UserRevokeRole", req: `name:"root" role:"root"`, want: `InvalidArgument: etcdserver: invalid auth management`},
		{name: "a permission goes", call: "RoleRevokePermission", req: `role:"writer" key:"a" range_end:"c"`, want: `@9`},
	})
	check(t, ada, []step{
		{name: "which counts at once", call: "Range", req: `key:"a"`, want: denied},
	})
	check(t, s.login("root", "r"), []step{
		{name: "a role goes with its grants", call: "RoleDelete", req: `role:"reader"`, want: `@9`},
		{call: "UserGet", req: `name:"ben"`, want: `@9`},
		{name: "a user goes", call: "UserDelete", req: `name:"ben"`, want: `@9`},
		{call: "UserChangePassword", req: `name:"ada" password:"new"`, want: `@9`},
	})
	check(t, s, []step{
		{call: "Authenticate", req: `name:"ada" password:"a"`, want: authFailed},
		{call: "Authenticate", req: `name:"ben" password:"b"`, want: authFailed},
	})
	check(t, s.login("root", "r"), []step{
		{call: "AuthDisable", req: ``, want: `@9`},
	})
	check(t, s, []step{
		{name: "no token is needed when it is off", call: "Put", req: `key:"a" value:"2"`, want: `@10`},
		{name: "disabling counts as a change", call: "AuthStatus", req: ``, want: `@10 authRevision=18`},
	})
}
