from shuffle_worker.service.config import ShuffleConfig as ShuffleConfig
from shuffle_worker.service.engine import Engine as Engine
from shuffle_worker.service.service import ShuffleService as ShuffleService
from shuffle_worker.spec.model import ShuffleType as ShuffleType
