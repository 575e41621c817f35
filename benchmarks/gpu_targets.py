"""GPUs for which programs are compiled without one: what XLA's compiler asks about a device.

The figures of A6000, A100 and H100 are those in the target descriptions of OpenXLA (github.com/openxla/xla,
xla/backends/gpu/target_config/specs, Apache License 2.0). OpenXLA has none for the RTX 4090: it is described
like the A6000, with the figures of NVIDIA's "Ada GPU architecture" white paper. Peak rates, for estimates of
time, are those of NVIDIA's data sheets: dense products of TF32 inputs, which is JAX's default for float32.
"""

from typing import NamedTuple


class Target(NamedTuple):
    """A GPU.

    Attributes:
        capability: compute capability, major and minor; extension of its instruction set.
        cores: multiprocessors; and threads, arithmetic units and shared memory (bytes) of each.
        block_memory: the most shared memory of a block, bytes.
        cache, memory: L2 cache and device memory, bytes.
        bandwidth: of its memory, bytes per second.
        clock: GHz.
        tflops: peak rate of products, 1e12 operations per second.
    """

    name: str
    capability: tuple[int, int, str]
    cores: int
    threads: int
    units: int
    core_memory: int
    block_memory: int
    cache: int
    memory: int
    bandwidth: float
    clock: float
    tflops: float

    def text(self) -> str:
        """The description in the compiler's own format."""
        major, minor, extension = self.capability
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {self.threads}
  core_count: {self.cores} fpus_per_core: {self.units} clock_rate_ghz: {self.clock}
  shared_memory_per_block: 49152 shared_memory_per_core: {self.core_memory}
  shared_memory_per_block_optin: {self.block_memory}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: {int(self.bandwidth)} l2_cache_size: {self.cache} device_memory_size: {self.memory}
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}
  dnn_version: "9.8.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
device_description_str: "{self.name}"
"""


TARGETS = {
    "rtx4090": Target(
        "NVIDIA GeForce RTX 4090",
        (8, 9, "NONE"),
        cores=128,
        threads=1536,
        units=128,
        core_memory=102400,
        block_memory=101376,
        cache=75497472,
        memory=25_757_220_864,
        bandwidth=1008e9,
        clock=2.52,
        tflops=82.6,
    ),
    "a6000": Target(
        "NVIDIA RTX A6000",
        (8, 6, "NONE"),
        cores=84,
        threads=1536,
        units=128,
        core_memory=102400,
        block_memory=101376,
        cache=6291456,
        memory=51041271808,
        bandwidth=768.096e9,
        clock=1.8,
        tflops=77.4,
    ),
    "a100": Target(
        "NVIDIA A100-SXM4-80GB",
        (8, 0, "NONE"),
        cores=108,
        threads=2048,
        units=64,
        core_memory=167936,
        block_memory=166912,
        cache=41943040,
        memory=85100068864,
        bandwidth=2039.04e9,
        clock=1.41,
        tflops=156.0,
    ),
    "h100": Target(
        "NVIDIA H100 80GB HBM3",
        (9, 0, "ACCELERATED_FEATURES"),
        cores=132,
        threads=2048,
        units=128,
        core_memory=233472,
        block_memory=232448,
        cache=52428800,
        memory=84942979072,
        bandwidth=3352.32e9,
        clock=1.98,
        tflops=494.0,
    ),
}
