package api

import (
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// callers says who may call a method.
type callers struct {
	// anyone: even a caller without a certificate.
	anyone bool
	// agent: an enrolled, unrevoked agent.
	agent bool
	// role: an unrevoked operator of at least this role; 0 means no operator.
	role catalog.Role
}

// The rows of the table, by name.
var (
	anyone    = callers{anyone: true, agent: true, role: catalog.RoleViewer}
	agents    = callers{agent: true}
	viewers   = callers{role: catalog.RoleViewer}
	operators = callers{role: catalog.RoleOperator}
	admins    = callers{role: catalog.RoleAdmin}
	everybody = callers{agent: true, role: catalog.RoleViewer}
)

// methods is the whole of authorization: full method name -> who may call it.
// A method without a row is refused to everybody, and fails the tests.
var methods = map[string]callers{
	healthv1.Health_Check_FullMethodName: anyone,
	healthv1.Health_List_FullMethodName:  admins,
	healthv1.Health_Watch_FullMethodName: everybody,

	tuskvaultv1.EnrollmentService_Enroll_FullMethodName: anyone,
	tuskvaultv1.EnrollmentService_Renew_FullMethodName:  everybody,

	tuskvaultv1.AgentService_Session_FullMethodName: agents,

	tuskvaultv1.ChunkService_Upload_FullMethodName:   agents,
	tuskvaultv1.ChunkService_Commit_FullMethodName:   agents,
	tuskvaultv1.ChunkService_Download_FullMethodName: agents,

	tuskvaultv1.EventService_Watch_FullMethodName: viewers,

	tuskvaultv1.FleetService_ListAgents_FullMethodName:     viewers,
	tuskvaultv1.FleetService_GetAgent_FullMethodName:       viewers,
	tuskvaultv1.FleetService_SetAgentLabels_FullMethodName: admins,
	tuskvaultv1.FleetService_SetAgentDrills_FullMethodName: admins,
	tuskvaultv1.FleetService_RevokeAgent_FullMethodName:    admins,
	tuskvaultv1.FleetService_ReplaceAgent_FullMethodName:   admins,
	tuskvaultv1.FleetService_CreateToken_FullMethodName:    admins,
	tuskvaultv1.FleetService_ListTokens_FullMethodName:     admins,
	tuskvaultv1.FleetService_RemoveToken_FullMethodName:    admins,
	tuskvaultv1.FleetService_ListInstances_FullMethodName:  viewers,
	tuskvaultv1.FleetService_GetInstance_FullMethodName:    viewers,
	tuskvaultv1.FleetService_JoinInstance_FullMethodName:   admins,
	tuskvaultv1.FleetService_LeaveInstance_FullMethodName:  admins,
	tuskvaultv1.FleetService_EraseInstance_FullMethodName:  admins,
	tuskvaultv1.FleetService_SetLogLevel_FullMethodName:    admins,

	tuskvaultv1.JobService_StartBackup_FullMethodName:  operators,
	tuskvaultv1.JobService_StartRestore_FullMethodName: operators,
	tuskvaultv1.JobService_ListJobs_FullMethodName:     viewers,
	tuskvaultv1.JobService_GetJob_FullMethodName:       viewers,
	tuskvaultv1.JobService_WatchJob_FullMethodName:     viewers,
	tuskvaultv1.JobService_CancelJob_FullMethodName:    operators,
	tuskvaultv1.JobService_ListJobLogs_FullMethodName:  viewers,

	tuskvaultv1.SnapshotService_ListSnapshots_FullMethodName:      viewers,
	tuskvaultv1.SnapshotService_GetSnapshot_FullMethodName:        viewers,
	tuskvaultv1.SnapshotService_ListSnapshotTables_FullMethodName: viewers,
	tuskvaultv1.SnapshotService_VerifySnapshot_FullMethodName:     operators,
	tuskvaultv1.SnapshotService_ListDrillReports_FullMethodName:   viewers,
	// What makes a snapshot go, or lets it go earlier, is for admins; what keeps one
	// is for whoever may restore it.
	tuskvaultv1.SnapshotService_ForgetSnapshots_FullMethodName:   admins,
	tuskvaultv1.SnapshotService_UnforgetSnapshots_FullMethodName: operators,
	tuskvaultv1.SnapshotService_HoldSnapshot_FullMethodName:      operators,
	tuskvaultv1.SnapshotService_ReleaseSnapshot_FullMethodName:   admins,
	tuskvaultv1.SnapshotService_DiffSnapshots_FullMethodName:     viewers,

	tuskvaultv1.ExportService_Export_FullMethodName: operators,

	tuskvaultv1.RepositoryService_CheckRepository_FullMethodName:    operators,
	tuskvaultv1.RepositoryService_WatchCheck_FullMethodName:         viewers,
	tuskvaultv1.RepositoryService_GetCheck_FullMethodName:           viewers,
	tuskvaultv1.RepositoryService_CancelCheck_FullMethodName:        operators,
	tuskvaultv1.RepositoryService_DistrustAgent_FullMethodName:      admins,
	tuskvaultv1.RepositoryService_GetRepositoryStats_FullMethodName: viewers,
	tuskvaultv1.RepositoryService_PruneRepository_FullMethodName:    admins,
	tuskvaultv1.RepositoryService_WatchPrune_FullMethodName:         viewers,
	tuskvaultv1.RepositoryService_GetPrune_FullMethodName:           viewers,
	tuskvaultv1.RepositoryService_CancelPrune_FullMethodName:        admins,

	tuskvaultv1.DeletionService_GetDeletion_FullMethodName:    viewers,
	tuskvaultv1.DeletionService_ResumeDeletion_FullMethodName: admins,

	tuskvaultv1.KeyService_ListKeys_FullMethodName:        admins,
	tuskvaultv1.KeyService_AddKey_FullMethodName:          admins,
	tuskvaultv1.KeyService_RemoveKey_FullMethodName:       admins,
	tuskvaultv1.KeyService_ConfirmKey_FullMethodName:      admins,
	tuskvaultv1.KeyService_RotateSealKeys_FullMethodName:  admins,
	tuskvaultv1.KeyService_RotateMasterKey_FullMethodName: admins,

	tuskvaultv1.StatusService_GetStatus_FullMethodName: viewers,
	tuskvaultv1.StatusService_WhoAmI_FullMethodName:    everybody,
}

// Lenient lists the methods that newer callers may ask for more than this version
// knows: enrolling, renewing, and a session, whose hello, heartbeats and inventory
// say what there is and ask for nothing. Everything else is refused when it holds
// a field that would be ignored; see rpc.ServerOptions.
func Lenient() []string {
	return []string{tuskvaultv1.EnrollmentService_Enroll_FullMethodName, tuskvaultv1.EnrollmentService_Renew_FullMethodName,
		tuskvaultv1.AgentService_Session_FullMethodName}
}
