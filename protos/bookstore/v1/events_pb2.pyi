import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.bookstore.v1 import books_pb2 as _books_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeliveredEvent(_message.Message):
    __slots__ = ("position", "id", "type", "book_id", "book_version", "time", "record_time", "book")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    BOOK_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    RECORD_TIME_FIELD_NUMBER: _ClassVar[int]
    BOOK_FIELD_NUMBER: _ClassVar[int]
    position: int
    id: str
    type: str
    book_id: int
    book_version: int
    time: _timestamp_pb2.Timestamp
    record_time: _timestamp_pb2.Timestamp
    book: _books_pb2.Book
    def __init__(self, position: _Optional[int] = ..., id: _Optional[str] = ..., type: _Optional[str] = ..., book_id: _Optional[int] = ..., book_version: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., record_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., book: _Optional[_Union[_books_pb2.Book, _Mapping]] = ...) -> None: ...

class ListDeliveredEventsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "book_id")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    book_id: int
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., book_id: _Optional[int] = ...) -> None: ...

class ListDeliveredEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[DeliveredEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[DeliveredEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchDeliveredEventsRequest(_message.Message):
    __slots__ = ("after_position", "book_id")
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    book_id: int
    def __init__(self, after_position: _Optional[int] = ..., book_id: _Optional[int] = ...) -> None: ...

class WatchDeliveredEventsResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: DeliveredEvent
    def __init__(self, event: _Optional[_Union[DeliveredEvent, _Mapping]] = ...) -> None: ...
