"""What can be believed: a judge, suites, per-sample truth, statistics, and the record of it all."""

from spikeproof.evaluate._artifacts import rejudge
from spikeproof.evaluate._certificate import (
    Certificate,
    overview_of,
    read_certificate,
    sandwich,
    write_certificate,
)
from spikeproof.evaluate._certify import CROWN, IBP, Method, certify
from spikeproof.evaluate._checks import (
    LIMITS,
    Limit,
    check_steps,
    control,
    parity,
    twin_failure,
    worst_of,
)
from spikeproof.evaluate._compare import Comparison, compare
from spikeproof.evaluate._diagnose import PARTS, diagnose
from spikeproof.evaluate._diagnosis import (
    Diagnosis,
    Firing,
    Seen,
    overview,
    read_diagnosis,
    write_diagnosis,
)
from spikeproof.evaluate._domains import Domains, domains
from spikeproof.evaluate._doubles import (
    PLANTED,
    DropoutLeftOn,
    FlippedGradient,
    NaNGuard,
    NeedleSurrogate,
    Planted,
    QuantisedInput,
    ScaledSoftmax,
    StateNotReset,
    self_test,
)
from spikeproof.evaluate._doubts import Evidence, doubts
from spikeproof.evaluate._evaluate import Conditions, evaluate
from spikeproof.evaluate._exact import Exact
from spikeproof.evaluate._feasible import feasible
from spikeproof.evaluate._finding import conclude
from spikeproof.evaluate._intake import Manifest, Samples
from spikeproof.evaluate._judge import Verdict, judge
from spikeproof.evaluate._landscape import Directional, Plane, agreement, directional, plane
from spikeproof.evaluate._merge import merge
from spikeproof.evaluate._packed import Packed
from spikeproof.evaluate._probes import probe
from spikeproof.evaluate._rate_coding import RateCoding
from spikeproof.evaluate._reading import Reading, check_record, read_checks
from spikeproof.evaluate._record import (
    Check,
    Finding,
    Record,
    StepRecord,
    read_record,
    summary,
    write_record,
)
from spikeproof.evaluate._replay import Compared, Replay, replay, write_replay
from spikeproof.evaluate._roles import Roles, roles_of
from spikeproof.evaluate._runner import Job, Progress
from spikeproof.evaluate._smoothing import Smoothing
from spikeproof.evaluate._submission import Submission, submit, write_submission
from spikeproof.evaluate._suite import Adaptive, Step, Suite
from spikeproof.evaluate._suites import ensemble19, named_suite
from spikeproof.evaluate._sweeps import Point, points, sweeps
from spikeproof.evaluate._theirs import Theirs
from spikeproof.evaluate._trail import RELATIVE, Operation, Trail, trail
from spikeproof.evaluate._transfer import Transfer, with_transfer
from spikeproof.evaluate._vulnerability import Vulnerability, vulnerability
from spikeproof.statistics import (
    clopper_pearson,
    contributions,
    cumulative,
    holm,
    jaccard,
    mcnemar,
    only_by,
    robust_accuracy,
    steps_curve,
    success_over_all,
    success_over_correct,
    wilson,
)

__all__ = [
    "CROWN",
    "IBP",
    "LIMITS",
    "PARTS",
    "PLANTED",
    "RELATIVE",
    "Adaptive",
    "Certificate",
    "Check",
    "Compared",
    "Comparison",
    "Conditions",
    "Diagnosis",
    "Directional",
    "Domains",
    "DropoutLeftOn",
    "Evidence",
    "Exact",
    "Finding",
    "Firing",
    "FlippedGradient",
    "Job",
    "Limit",
    "Manifest",
    "Method",
    "NaNGuard",
    "NeedleSurrogate",
    "Operation",
    "Packed",
    "Plane",
    "Planted",
    "Point",
    "Progress",
    "QuantisedInput",
    "RateCoding",
    "Reading",
    "Record",
    "Replay",
    "Roles",
    "Samples",
    "ScaledSoftmax",
    "Seen",
    "Smoothing",
    "StateNotReset",
    "Step",
    "StepRecord",
    "Submission",
    "Suite",
    "Theirs",
    "Trail",
    "Transfer",
    "Verdict",
    "Vulnerability",
    "agreement",
    "certify",
    "check_record",
    "check_steps",
    "clopper_pearson",
    "compare",
    "conclude",
    "contributions",
    "control",
    "cumulative",
    "diagnose",
    "directional",
    "domains",
    "doubts",
    "ensemble19",
    "evaluate",
    "feasible",
    "holm",
    "jaccard",
    "judge",
    "mcnemar",
    "merge",
    "named_suite",
    "only_by",
    "overview",
    "overview_of",
    "parity",
    "plane",
    "points",
    "probe",
    "read_certificate",
    "read_checks",
    "read_diagnosis",
    "read_record",
    "rejudge",
    "replay",
    "robust_accuracy",
    "roles_of",
    "sandwich",
    "self_test",
    "steps_curve",
    "submit",
    "success_over_all",
    "success_over_correct",
    "summary",
    "sweeps",
    "trail",
    "twin_failure",
    "vulnerability",
    "wilson",
    "with_transfer",
    "worst_of",
    "write_certificate",
    "write_diagnosis",
    "write_record",
    "write_replay",
    "write_submission",
]
