import pytest

from milpath.sagemaker.jobs import job_environment as environment
from milpath.sagemaker.jobs.job_environment import SageMakerEnvironment

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SM_HOSTS")
OPEN_MPI = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (*VARIABLES, *(f"OMPI_COMM_WORLD_{name}" for name in OPEN_MPI), "SM_FRAMEWORK_PARAMS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun"])
@pytest.mark.parametrize(("rank", "node"), [(0, 0), (7, 0), (8, 1), (15, 1)])
def test_each_host_has_its_own_node_rank(monkeypatch, launcher, rank, node):
    values = {"RANK": rank, "LOCAL_RANK": rank % 8, "WORLD_SIZE": 16, "LOCAL_WORLD_SIZE": 8}
    if launcher == "mpirun":
        values = dict(zip([f"OMPI_COMM_WORLD_{name}" for name in OPEN_MPI], (rank, 16, rank % 8, 8), strict=True))
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    found = SageMakerEnvironment()
    assert SageMakerEnvironment.detect()
    assert found.creates_processes_externally
    assert (found.global_rank(), found.local_rank(), found.node_rank(), found.world_size()) == (
        rank,
        rank % 8,
        node,
        16,
    )
    assert (environment.num_devices(), environment.num_nodes()) == (8, 2)


def test_the_first_host_in_order_of_names_is_where_processes_meet(monkeypatch):
    monkeypatch.setenv("SM_HOSTS", '["algo-2", "algo-1"]')
    assert (SageMakerEnvironment().main_address, SageMakerEnvironment().main_port) == ("algo-1", 7777)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.9")
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert (SageMakerEnvironment().main_address, SageMakerEnvironment().main_port) == ("10.0.0.9", 1234)


def test_without_a_launcher_there_is_one_process_on_one_machine():
    assert not SageMakerEnvironment.detect()
    assert (environment.num_devices(), environment.num_nodes(), environment.hosts()) == (1, 1, ["localhost"])
    with pytest.raises(ValueError, match="start the processes with torchrun or mpirun"):
        SageMakerEnvironment().global_rank()


@pytest.mark.parametrize("switch", ["sagemaker_distributed_dataparallel_enabled", "sagemaker_pytorch_ddp_enabled"])
def test_the_job_says_whether_smddp_was_asked_for(monkeypatch, switch):
    assert not environment.smddp_enabled()
    monkeypatch.setenv("SM_FRAMEWORK_PARAMS", f'{{"{switch}": false}}')
    assert not environment.smddp_enabled()
    monkeypatch.setenv("SM_FRAMEWORK_PARAMS", f'{{"{switch}": true}}')
    assert environment.smddp_enabled()


def test_the_instance_type_is_exported_under_the_name_that_smddp_reads(monkeypatch):
    monkeypatch.delenv("SAGEMAKER_INSTANCE_TYPE", raising=False)
    monkeypatch.setenv("SM_CURRENT_INSTANCE_TYPE", "ml.p4d.24xlarge")
    environment.name_instance_type()
    assert environment.os.environ["SAGEMAKER_INSTANCE_TYPE"] == "ml.p4d.24xlarge"
    monkeypatch.setenv("SM_CURRENT_INSTANCE_TYPE", "ml.p5.48xlarge")
    environment.name_instance_type()
    assert environment.os.environ["SAGEMAKER_INSTANCE_TYPE"] == "ml.p4d.24xlarge"
